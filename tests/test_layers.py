"""Two rooms and the floors inside them: what a module may import, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.runner import closure

# A module imports only from lower floors (rows further up). The core is named as it is, the workbench's
# modules by their last name.
FLOORS = (
    ("smoot.checks", "smoot.modes", "smoot.delivery", "closure", "devices", "measures", "paths", "progress"),
    ("randomness", "schema"),
    ("smoot.masking", "smoot.saliency", "answers", "plain_fit", "composites", "catalogue"),
    ("cells", "notebook", "statistics", "storage", "workers"),
    ("smoot.metrics", "smoot.perturbation", "smoot.scheduler", "attribution", "erasing", "robustness"),
    ("decoding", "ledger", "provenance", "results", "style", "transfer", "typesetting"),
    ("smoot.curves", "smoot.selection", "localisation", "sanity", "stability", "sources"),
    ("smoot.guidance", "smoot.sequence", "data"),
    ("smoot.objective", "parameters"),
    ("smoot.step", "smoot.probe", "schedules"),
    ("smoot.criterion",),
    ("config", "faithfulness"),
    ("models", "protocol", "study"),
    ("training", "judge", "retraining"),
    ("map_quality",),
    ("attribution_quality",),
    ("evaluation",),
    ("training_cells", "judge_cells", "retraining_cells"),
    ("evaluation_cells",),
    ("captions", "charts", "claims", "costs", "grid", "pictures", "studies", "tabulation", "verify"),
    ("attribution_tables", "comparison_charts", "cost_charts", "pipeline_tables", "quality_tables", "study_tables"),
    ("training_tables", "oracle", "condition_charts"),
    ("choice", "effects", "prices"),
    ("effect_tables", "choice_tables"),
    ("effect_charts", "schedule_tables", "schedule_charts"),
    ("tables", "figures"),
    ("report", "readme", "metric_docs"),
)
# What makes training and measuring heavy; drawing and reporting work without it.
HEAVY = {"torch", "timm", "torchvision", "torchmetrics", "safetensors", "captum"}
SOURCES = Path(closure.__file__).parents[2]


def full(name: str) -> str:
    return name if name.startswith("smoot.") else f"workbench.{name}"


FLOOR = {full(name): floor for floor, names in enumerate(FLOORS) for name in names}
CORE = {module for module in FLOOR if not module.startswith("workbench.")}


def file_of(module: str) -> Path:
    return SOURCES.joinpath(*module.split(".")).with_suffix(".py")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCES).with_suffix("").parts)


def libraries(code: str, module: str) -> set[str]:
    """The packages that a source imports, other than its own and the standard library."""
    top = {name.partition(".")[0] for name in closure.imported_modules(code, module)}
    return top - {"smoot"} - sys.stdlib_module_names


def too_high(code: str, module: str) -> set[str]:
    """The modules of its own or a higher floor, or of the other room's, that a source imports."""
    imported = {name for name in closure.imported_modules(code, module) if name.startswith("smoot.")}
    upstairs = {name for name in imported if FLOOR[name] >= FLOOR[module]}
    return upstairs | (imported - CORE if module in CORE else set())


def test_the_table_names_every_module_once() -> None:
    files = [file for file in (SOURCES / "smoot").rglob("*.py") if file.name != "__init__.py"]
    assert sorted(map(module_of, files)) == sorted(full(name) for names in FLOORS for name in names)


@pytest.mark.parametrize("module", FLOOR)
def test_a_module_imports_only_from_lower_floors(module: str) -> None:
    assert too_high(file_of(module).read_text(), module) == set()


def test_the_check_sees_each_kind_of_wrong_import() -> None:
    masking, tables = "smoot.masking", full("tables")
    assert too_high("def f():\n    from smoot.objective import guided_loss", masking) == {"smoot.objective"}
    assert too_high("from smoot import saliency", masking) == {"smoot.saliency"}
    assert too_high("from workbench import figures, paths", tables) == {full("figures")}
    assert too_high("import workbench.config.paths", "smoot.objective") == {full("paths")}
    assert too_high("from workbench import paths, results\nimport torch", tables) == set()
    with pytest.raises(ValueError, match="imports from the package smoot"):
        too_high("from smoot import guided_loss", tables)


@pytest.mark.parametrize("module", sorted(CORE))
def test_the_core_needs_torch_and_nothing_else(module: str) -> None:
    assert libraries(file_of(module).read_text(), module) <= {"torch"}


@pytest.mark.parametrize("module", ["tables", "figures", "report", "readme"])
def test_drawing_and_reporting_import_nothing_heavy_however_indirectly(module: str) -> None:
    files = {module_of(file): file for file in closure.source_files(full(module))}
    heavy = {name: libraries(file.read_text(), name) & HEAVY for name, file in files.items() if name not in CORE}
    assert {name: found for name, found in heavy.items() if found} == {}
    assert libraries(file_of(full("models")).read_text(), full("models")) & HEAVY


def test_the_notebook_command_starts_with_little() -> None:
    module = full("notebook")
    body = ast.parse(file_of(module).read_text()).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert libraries(ast.unparse(ast.Module(imports, [])), module) == {"yaml"}
    assert libraries(file_of(module).read_text(), module) == {"yaml", "papermill", "nbformat"}


def test_importing_the_core_or_the_drawing_modules_loads_nothing_they_do_not_need() -> None:
    code = (
        "import sys, smoot\n"
        "print(*{'timm', 'torchvision', 'pandas', 'matplotlib', 'seaborn', 'yaml', 'papermill'} & {*sys.modules})\n"
        "from workbench import tables, figures, report, readme\n"
        "print(*{'timm', 'torchvision', 'torchmetrics', 'safetensors'} & {*sys.modules})\n"
        "print(*{'torch', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCES, capture_output=True, text=True, check=True, timeout=120
    )
    core, drawing, control = done.stdout.splitlines()
    assert (core, drawing) == ("", "")
    assert set(control.split()) == {"torch", "pandas"}
