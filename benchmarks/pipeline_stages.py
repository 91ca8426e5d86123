"""What ``make repro`` starts, stage by stage, and what each start consists of; for pipeline_cost.py."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from smoot.workbench import paths

if TYPE_CHECKING:
    from smoot.workbench.config import Grid

NOTEBOOK = ("-m", "smoot.workbench.notebook")
REPORTS = ("00_method", "03_tables", "04_figures")
LISTING = """import os
from dvc.cli import main
os.chdir({root!r})
raise SystemExit(main(['stage', 'list', '--all', '--quiet']))"""
WITH_NOTEBOOKS = "from smoot.workbench.notebook import UNUSED, absent\nwith absent(UNUSED): import nbformat"
EXTRACTED = ("01_train", "02_evaluate", "03_tables", "04_figures")


@dataclass(frozen=True)
class Stage:
    """One kind of command.

    Attributes:
        name: as in the table.
        starts: ways to start, each with how many commands of ``make repro`` start so and what these do before
            their work: one text for each of a command's kernels, or one for a bare process.
        kernel: whether they run notebooks.
        commands: the commands themselves; empty if their runs stand in results/provenance.
    """

    name: str
    starts: tuple[tuple[int, tuple[str, ...]], ...]
    kernel: bool = False
    commands: tuple[tuple[str, ...], ...] = ()

    @property
    def count(self) -> int:
        """How many of these commands ``make repro`` runs."""
        return sum(count for count, _ in self.starts)


def prepare(task: tuple[tuple[str, ...], str], report: object) -> None:
    """What a worker does before its work: import the modules, read the data set (none if its name is empty)."""
    modules, dataset = task
    for module in modules:
        import_module(module)
    if dataset:
        import_module("smoot.workbench.data").load_once(dataset)


def crew(workers: int, modules: Sequence[str] = (), dataset: str = "") -> str:
    """Code that starts this many workers, who prepare and end."""
    task = (tuple(modules), dataset)
    return (
        "from pipeline_stages import prepare\n"
        "from smoot.workbench.workers import run_seeds\n"
        f"run_seeds(prepare, [{task!r}] * {workers}, workers={workers}, describe='start', steps=1)"
    )


def importing(*modules: str) -> tuple[str, ...]:
    """Code of as many kernels as modules; each imports one of the workbench."""
    return tuple(f"import smoot.workbench.{module}" for module in modules)


def stages(grid: "Grid", timm_backbones: Collection[str]) -> list[Stage]:
    """All that ``make repro`` starts, in its order.

    Args:
        grid: of the profile.
        timm_backbones: those of its backbones whose workers import timm.
    """
    profile = grid.profile
    with_timm = sum(backbone in timm_backbones for _, backbone in grid.settings)
    numbers = {True: with_timm, False: len(grid.settings) - with_timm}

    def working(module: str, *others: str, timm: bool = False) -> tuple[str, ...]:
        """A module of the workbench, and workers who import it and others."""
        modules = [f"smoot.workbench.{name}" for name in (module, *others)] + ["timm"] * timm
        return (f"{importing(module)[0]}\n{crew(grid.workers, modules, grid.datasets[0])}",)

    def by_setting(*modules: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
        return tuple((number, working(*modules, timm=timm)) for timm, number in numbers.items() if number)

    def drawing(stem: str) -> tuple[tuple[str, ...], ...]:
        return ((*NOTEBOOK, "run", f"notebooks/{stem}.ipynb", f"drawn/{stem}.ipynb", "-p", "profile", profile),)

    fetch = ("-m", "smoot.workbench.data", "fetch", *grid.datasets)
    manifests = [("-m", "smoot.workbench.data", "manifest", name, "--profile", profile) for name in grid.datasets]
    extraction = (*NOTEBOOK, "code", *(f"notebooks/{stem}.ipynb" for stem in EXTRACTED), "--into", "build")
    report = ("-m", "smoot.workbench.report", "--profile", profile)
    refresh = (*NOTEBOOK, "refresh", *(f"notebooks/{stem}.ipynb" for stem in REPORTS))
    return [
        Stage("dvc", ((2, (LISTING.format(root=str(paths.ROOT)),)),)),
        Stage("code", ((2, (WITH_NOTEBOOKS,)),), commands=(extraction, extraction)),
        Stage("data", ((1 + len(manifests), importing("data")),), commands=(fetch, *manifests)),
        Stage("train", by_setting("training_cells", "models", "training"), kernel=True),
        Stage("judge", ((1, working("judge_cells", "models", "judge")),)),
        Stage("evaluate", by_setting("evaluation_cells", "models", "evaluation"), kernel=True),
        Stage("retrain", ((1, working("retraining_cells", "models", "retraining", timm=with_timm > 0)),)),
        Stage("tables", ((1, importing("tables")),), True, drawing("03_tables")),
        Stage("figures", ((1, importing("figures")),), True, drawing("04_figures")),
        Stage("report", ((1, importing("report")),), commands=(report,)),
        Stage("notebooks", ((1, importing("training", "tables", "figures")),), True, (refresh,)),
        Stage("readme", ((1, importing("readme")),), commands=(("-m", "smoot.workbench.readme"),)),
    ]
