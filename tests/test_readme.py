"""README.md and the documents: generated where they have results, links that lead somewhere, an example that runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from workbench.stages import pages

ROOT = Path(__file__).parents[1]
LINKED = [*pages.DOCUMENTS, *(f"docs/{name}.md" for name in ("errors", "faq", "metrics", "reproducing"))]
LINKED += [
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "data/README.md",
    "figures/README.md",
]
BLOCK = re.compile(r"^<!-- begin ([\w/]+) -->$.*?^<!-- end \1 -->$", flags=re.DOTALL | re.MULTILINE)


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", pages.DOCUMENTS)
def test_generated_blocks_are_up_to_date(document: str) -> None:
    text = read(document)
    assert pages.filled(text, document) == text, "run: python -m workbench readme"


@pytest.mark.parametrize("document", ["README.md", "docs/method.md", "docs/deviations.md", "docs/replication.md"])
def test_results_are_generated(document: str) -> None:
    assert BLOCK.search(read(document)), f"{document} has no generated block"


@pytest.mark.parametrize("document", LINKED)
def test_links_to_files_of_the_repository_lead_somewhere(document: str) -> None:
    for address in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", read(document)):
        assert ((ROOT / document).parent / address).exists(), address


def test_index_and_diagram_are_up_to_date() -> None:
    assert not {pages.INDEX, pages.DIAGRAM} & {*pages.stale()}, "run: python -m workbench readme"


def test_the_first_example_trains() -> None:
    """It may use what anyone's loop has: model, optimizer, loader, number of epochs, some batches of each kind."""
    example = re.search(r"```python\n(.*?)```", read("README.md"), flags=re.DOTALL)
    assert example, "README.md has no ```python block"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    loader = [(torch.rand(16, 1, 6, 6), torch.arange(16) % 3)] * 3
    names = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "loader": loader, "epochs": 2}
    names |= {
        "some_training_batches": loader[:1],
        "some_held_out_batches": [(torch.rand(8, 1, 6, 6), torch.arange(8) % 3)],
    }
    exec(example.group(1), names)
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients if gradient is not None)
