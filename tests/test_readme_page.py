"""README.md as a page: short enough to be read, and with pictures that are there."""

import re
from pathlib import Path

import pytest
from browser import MISSING, browser, height
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
LINES, HEIGHT, WIDTH = 120, 4000, 1280  # at most so many lines, and pixels in a window of that width
# A repository's first page on GitHub: the text has 830 of 1,280 pixels.
STYLE = """
body { margin: 0; padding: 32px; width: 830px; box-sizing: content-box; background: #fff; color: #1f2328;
       font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; overflow-wrap: break-word; }
h1, h2 { margin: 24px 0 16px; padding-bottom: 0.3em; line-height: 1.25; border-bottom: 1px solid #d1d9e0b3; }
h1 { margin-top: 0; font-size: 2em; }
h2 { font-size: 1.5em; }
p, ul, table, pre { margin: 0 0 16px; }
ul { padding-left: 2em; }
li + li { margin-top: 0.25em; }
img { max-width: 100%; }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
th, td { padding: 6px 13px; border: 1px solid #d1d9e0; }
code { font: 85%/1.45 ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; background: #818b981f; }
pre { padding: 16px; overflow: auto; background: #f6f8fa; }
pre code { background: none; }
"""


def rendered() -> str:
    """The README as HTML with GitHub-like style."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    head = f'<meta charset="utf-8"><title>README</title><base href="{ROOT.as_uri()}/"><style>{STYLE}</style>'
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


def test_it_has_few_lines() -> None:
    count = len((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    assert count <= LINES, f"README.md has {count} lines: move some of them to docs/"


def test_its_first_screen_comes_in_order() -> None:
    """What it is, the picture, the table, how to install and use it, the command; then how it works."""
    text = rendered()
    places = [text.index(mark) for mark in ("<h1>", "<img", "<table>", "pip install .", "import smoot", "make repro")]
    assert places == sorted(places) and places[-1] < text.index("<h2>")


@pytest.mark.skipif(browser() is None, reason=MISSING)
def test_it_is_not_tall(tmp_path: Path) -> None:
    pictures = re.findall(r'<img src="([^"]+)"', rendered())
    assert pictures and all((ROOT / picture).exists() for picture in pictures)  # a missing one would take no room
    found = height(rendered(), tmp_path, WIDTH)
    assert found <= HEIGHT, f"README.md is {found} pixels tall at {WIDTH}: shorten it, or move parts of it to docs/"
