"""Pages in headless Chromium, for tests of what readers see."""

import re
import shutil
from pathlib import Path

from processes import printed

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"no browser found: install one of {', '.join(NAMES)}"
# Says in the page's title how tall it is, once all pictures are there.
MEASURE = """<script>
addEventListener("load", () => document.title = "height " + document.documentElement.scrollHeight)
</script>"""


def browser() -> str | None:
    """The first of the browsers that is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def height(page: str, folder: Path, width: int) -> int:
    """How many pixels a page is tall in a window of this width.

    Args:
        page: HTML.
        folder: for the page's file and the browser's own.
        width: in pixels.
    """
    file = folder / "page.html"
    file.write_text(page + MEASURE, encoding="utf-8")
    program = browser()
    assert program, MISSING
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},800", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]
    shown = printed(command)
    found = re.search(r"<title>height (\d+)</title>", shown)
    assert found, f"the page says no height: {shown[:500]}"
    return int(found.group(1))
