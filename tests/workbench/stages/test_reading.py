"""What a notebook shows of figures: each of them once, under the right heading."""

import re

import pytest

from workbench.config.paths import ProfilePaths
from workbench.stages.reading import figures_page
from workbench.stages.report import captions

SETTINGS = ("Fashion-MNIST, Two-conv (small)", "BlockMNIST, Two-conv (small)", "Fashion-MNIST, ResNet-10 (strided)")


@pytest.mark.parametrize(
    ("profile", "headings"), [("laptop", ["What came out", *SETTINGS, "All others"]), ("recipe", ["What came out"])]
)
def test_every_figure_is_shown_or_linked_once_below_the_headings(profile: str, headings: list[str]) -> None:
    written = captions(ProfilePaths(profile).plots)
    page = str(figures_page(written, profile).data)
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == headings
    assert all(page.count(f"/{name}.png)") == 1 for name in written)
