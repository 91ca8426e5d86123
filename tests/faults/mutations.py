"""Damage to a file: bits that flip, a cut, junk, lines in another order, a value that nobody meant."""

import random
import re
from collections.abc import Callable

Draws = random.Random
WORD = re.compile(rb"[^\s,:\[\]{}\"']+")
JUNK = (  # what text, CSV, YAML, JSON and numbers stumble over
    *(b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\xa9", b"\r", b"\t", b"\n\n", b" ", b'"', b"'", b",", b",,,"),
    *(b"nan", b".nan", b"inf", b"-.inf", b"-1", b"0", b"1.5", b"1e999", b"0x1F", b"1_000", b"1:30", b"9" * 400),
    *(b"true", b"null", b"~", b"=", b"<<", b"[]", b"{}", b"[", b"}", b"[[[[", b":", b"- ", b"#", b"? a", b"---\n"),
    *(b"&a [*a]", b"*a", b"<<: 3", b"2024-13-45", b"!!python/name:os.system", b"!!binary x", b"!!set {a}"),
    *(b"!!float x", b"%YAML 9.9", b"; touch X"),
)


def mutated(content: bytes, draws: Draws) -> bytes:
    """The content with one or a few mistakes in it."""
    for _ in range(draws.choice((1, 1, 1, 2, 5))):
        content = draws.choice(MISTAKES)(content, draws)
    return content


def flip_bits(content: bytes, draws: Draws) -> bytes:
    damaged = bytearray(content)
    for _ in range(min(draws.choice((1, 1, 8)), len(damaged))):
        damaged[draws.randrange(len(damaged))] ^= 1 << draws.randrange(8)
    return bytes(damaged)


def cut_off(content: bytes, draws: Draws) -> bytes:
    return content[: draws.randrange(len(content) + 1)]


def cut_out(content: bytes, draws: Draws) -> bytes:
    start = draws.randrange(len(content) + 1)
    return content[:start] + content[start + draws.randrange(1, 40) :]


def insert(content: bytes, draws: Draws) -> bytes:
    place = draws.randrange(len(content) + 1)
    junk = draws.choice(JUNK) if draws.random() < 0.8 else draws.randbytes(draws.randrange(1, 20))
    return content[:place] + junk + content[place:]


def replace_word(content: bytes, draws: Draws) -> bytes:
    """Junk, or another word of the file, in a word's place."""
    words = [word.span() for word in WORD.finditer(content)]
    if not words:
        return content
    start, end = draws.choice(words)
    other = slice(*draws.choice(words))
    return content[:start] + (draws.choice(JUNK) if draws.random() < 0.7 else content[other]) + content[end:]


def of_lines(change: Callable[[list[bytes], Draws], None]) -> Callable[[bytes, Draws], bytes]:
    """A mistake with whole lines."""

    def mistake(content: bytes, draws: Draws) -> bytes:
        lines = content.splitlines(keepends=True)
        if lines:
            change(lines, draws)
        return b"".join(lines)

    return mistake


def swap(lines: list[bytes], draws: Draws) -> None:
    first, second = draws.randrange(len(lines)), draws.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]


def double(lines: list[bytes], draws: Draws) -> None:
    lines.insert(draws.randrange(len(lines)), draws.choice(lines))


def lose(lines: list[bytes], draws: Draws) -> None:
    del lines[draws.randrange(len(lines))]


MISTAKES = (flip_bits, cut_off, cut_out, insert, replace_word, replace_word, *map(of_lines, (swap, double, lose)))
