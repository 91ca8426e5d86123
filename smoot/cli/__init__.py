"""The command ``smoot``: trains, explains and evaluates on a folder of images. Others import its decoding alone."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

# What the extra `images` installs, by the names under which it is imported.
NEEDED = ("matplotlib", "numpy", "PIL", "safetensors", "timm", "torchvision", "tqdm", "typer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 if all went well, 1 if the work failed, 2 for wrong usage, 130 for Ctrl-C."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"error: the command smoot needs {', '.join(missing)}: pip install 'smoot-saliency[images]'",
            file=sys.stderr,
        )
        return 1
    from smoot.cli.command import run

    return run(arguments)
