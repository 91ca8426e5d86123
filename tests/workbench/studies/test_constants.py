"""The table of the best constants in the documents: recomputed from the committed runs, regime by regime."""

import pytest
from paired import difference, shown, table

from workbench.config import paths
from workbench.config.profile import method_entries

TEXT = (paths.ROOT / "docs" / "method.md").read_text()
GAP = "judge_gap_right_mean"
CONSTANTS = (*(f"signed_k{k}" for k in (10, 20, 30, 50, 70)), *(f"share_{share}" for share in (10, 25, 50)))
REGIMES = {
    "number": "two-convolution net, 2,000 images",
    "number_few": "500 images",
    "number_many": "10,000 images",
    "number_noise": "wrong labels",
    "number_resnet": "strided ResNet, 2,000 images",
}


def row(profile: str) -> str:
    runs = table(profile)
    accuracy, gap = (
        {method: difference(runs, method, "plain", measure) for method in (*CONSTANTS, "gap")}
        for measure in ("accuracy", GAP)
    )
    titles = {name: entry.title for name, entry in method_entries(profile).items()}
    best, clearest = (max(CONSTANTS, key=lambda method: found[method].mean()) for found in (accuracy, gap))
    cells = [
        *(
            REGIMES[profile],
            titles[best],
            shown(accuracy[best], 2, "+"),
            titles[clearest],
            shown(gap[clearest], 1, "+"),
        ),
        *(shown(accuracy[clearest], 2, "+"), f"{shown(accuracy['gap'], 2, '+')}; {shown(gap['gap'], 1, '+')}"),
    ]
    return f"| {' | '.join(cells)} |\n"


@pytest.mark.parametrize("profile", REGIMES)
def test_the_best_constants_in_the_text(profile: str) -> None:
    assert row(profile) in TEXT
