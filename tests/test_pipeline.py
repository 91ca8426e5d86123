"""The pipeline's text: what stages depend on and write, and that the committed results are up to date."""

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.config import files, paths
from workbench.config.paths import pipeline
from workbench.config.profile import load_grid, load_run
from workbench.runner import closure
from workbench.stages import notebook

ROOT = Path(notebook.__file__).parents[2]
RAW: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = {name: stage.get("do", stage) for name, stage in RAW.items()}  # of a repeated stage, what is repeated
COMMITTED = ("results/", "figures/", "data/")
OWN_FOLDERS = {name: file.parent for name, file in paths.profiles().items() if name not in ("laptop", "smoke")}
NO_RESULT_DEPENDS_ON = {"profile", "root", "here", "workers"}


def dvc(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def modules_of(command: str) -> set[str]:
    """The smoot modules that a stage's command runs; executing a notebook changes no result by itself."""
    if found := re.search(r"workbench\.notebook run (notebooks/\S+\.ipynb)", command):
        code = notebook.code(ROOT / found[1])
        return {name for name in closure.imported_modules(code, found[1]) if name.startswith("smoot.")}
    return set(re.findall(r"-m (smoot\.[\w.]+)", command))


def outs_of(stage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The out paths of a stage with their options."""
    return {path: options for out in stage["outs"] for path, options in dict_of(out).items()}


def dict_of(out: str | dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {out: {}} if isinstance(out, str) else out


@pytest.mark.parametrize("profile", OWN_FOLDERS)
def test_every_profile_has_the_same_pipeline(profile: str) -> None:
    copy = OWN_FOLDERS[profile] / "dvc.yaml"
    assert copy.read_bytes() == (ROOT / "dvc.yaml").read_bytes()
    assert not copy.is_symlink()


@pytest.mark.parametrize("profile", ["laptop", *OWN_FOLDERS])
def test_a_profile_says_where_it_is(profile: str) -> None:
    file = paths.params_file(profile)
    said = yaml.safe_load(file.read_text())
    assert said["profile"] == profile
    assert (file.parent / said["root"]).resolve() == ROOT
    assert ROOT / said["here"] / "params.yaml" == file and said["here"] in ("", f"{file.parent.relative_to(ROOT)}/")
    assert pipeline(profile) == (f"{said['here']}dvc.yaml:" if said["here"] else "")


def test_the_stages() -> None:
    once = ["judge", "retrain", "tables", "figures", "report"]
    assert sorted(STAGES) == sorted(["code", "data", "train", "evaluate", *once])
    repeated = {name: stage.get("matrix", stage.get("foreach")) for name, stage in RAW.items()}
    assert {name: over for name, over in repeated.items() if over} == {
        "data": {"dataset": "${grid.datasets}"},
        "train": "${grid.settings}",
        "evaluate": "${grid.settings}",
    }
    assert {stage["wdir"] for stage in STAGES.values()} == {"${root}"}


def hashed_modules(file: Path) -> set[str]:
    """Modules that a source names in texts, as for the code hash of a record, without importing them."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and is_module(node.value)}


def is_module(value: object) -> bool:
    place = ROOT.joinpath(*str(value).split("."))
    return str(value).startswith("smoot.") and place.with_name(f"{place.name}.py").is_file()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_modules_that_its_code_imports_or_hashes(name: str) -> None:
    modules = modules_of(STAGES[name]["cmd"])
    assert modules
    hashed = set().union(*map(hashed_modules, closure.source_files(*modules)))
    expected = {file.relative_to(ROOT).as_posix() for file in closure.source_files(*modules, *hashed)}
    assert {dep for dep in STAGES[name]["deps"] if dep.startswith("smoot/")} == expected


def test_the_modules_of_a_command_are_read_from_it() -> None:
    assert modules_of("python -m workbench.data.sets manifest x") == {"workbench.data.sets"}
    assert modules_of("python -m workbench.stages.notebook code notebooks/01_train.ipynb") == {
        "workbench.stages.notebook"
    }
    run = "python -m workbench.stages.notebook run notebooks/01_train.ipynb t.ipynb"
    assert "workbench.stages.training_cells" in modules_of(run)
    assert "workbench.stages.notebook" not in modules_of(run)


def test_stages_depend_on_the_extracted_code_and_never_on_a_notebook() -> None:
    run = {name: re.findall(r"notebook run notebooks/(\S+)\.ipynb", stage["cmd"]) for name, stage in STAGES.items()}
    stems = [stem for found in run.values() for stem in found]
    assert stems == ["01_train", "02_evaluate", "03_tables", "04_figures"]
    for name, found in run.items():
        if name != "code":
            built = [dep for dep in STAGES[name]["deps"] if dep.startswith("build/")]
            assert built == [f"build/${{profile}}/{stem}.py" for stem in found]
            assert not [dep for dep in STAGES[name]["deps"] if dep.endswith(".ipynb")]
    code = STAGES["code"]
    assert re.findall(r"notebooks/(\S+)\.ipynb", code["cmd"]) == stems
    assert [dep for dep in code["deps"] if dep.endswith(".ipynb")] == [f"notebooks/{stem}.ipynb" for stem in stems]
    assert list(outs_of(code)) == [f"build/${{profile}}/{stem}.py" for stem in stems]


@pytest.mark.parametrize("name", STAGES)
def test_outs_belong_to_one_profile_and_committed_ones_are_in_git(name: str) -> None:
    for path, options in outs_of(STAGES[name]).items():
        assert "${profile}" in path
        assert "persist" not in options
        assert not path.startswith("notebooks/")
        if path.startswith(COMMITTED):
            assert options.get("cache") is False, path


def test_stages_depend_on_every_parameter_that_decides_a_result() -> None:
    used = {
        key.partition(".")[0]
        for stage in STAGES.values()
        for block in stage.get("params", [])
        for keys in block.values()
        for key in keys
    }
    for profile in ("laptop", *OWN_FOLDERS):
        assert used == set(yaml.safe_load(paths.params_file(profile).read_text())) - NO_RESULT_DEPENDS_ON, profile
    assert {file for stage in STAGES.values() for block in stage.get("params", []) for file in block} == {
        "${here}params.yaml"
    }


@pytest.mark.parametrize("profile", ["laptop", "paper", "effects"])
def test_dvc_reads_every_stage_of_a_profile(profile: str) -> None:
    grid = load_grid(profile)
    file = paths.params_file(profile).with_name("dvc.yaml").relative_to(ROOT)
    listed = dvc("stage", "list", str(file), "--name-only", cwd=ROOT)
    assert listed.returncode == 0, listed.stderr
    settings = ["-".join(setting) for setting in grid.settings]
    expected = [f"{stage}@{setting}" for stage in ("train", "evaluate") for setting in settings]
    expected += [f"data@{name}" for name in grid.datasets]
    expected += ["code", "judge", "retrain", "tables", "figures", "report"]
    assert sorted(line.rpartition(":")[2] for line in listed.stdout.split()) == sorted(expected)
    assert len(expected) < 100  # DVC's own time grows with the square of it


def test_the_committed_results_are_up_to_date_on_a_fresh_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    checked = dvc("repro", "--allow-missing", "--dry", "dvc.yaml", cwd=clone)
    assert checked.stdout.strip().endswith("Data and pipelines are up to date."), checked.stdout + checked.stderr
    assert checked.returncode == 0
    params = clone / "params.yaml"
    seeds = f"\nseeds: [{load_grid('laptop').seeds[0]}, "
    assert seeds in params.read_text()
    params.write_text(params.read_text().replace(seeds, "\nseeds: [77, ", 1))
    stale = dvc("repro", "--allow-missing", "--dry", "dvc.yaml", cwd=clone)
    assert "up to date" not in stale.stdout.splitlines()[-1]


def outdated(record: dict[str, Any]) -> bool:
    """Whether a record's configuration is another than today's parameters give."""
    cell = record["cell"]
    names = (cell["dataset"], cell["backbone"], cell["method"], cell["seed"])
    today = load_run(*names, profile=cell["profile"]).as_dict()
    return bool(files.simplified(today, "today", digits=None) != record["config"])


@pytest.mark.parametrize("profile", OWN_FOLDERS)
def test_every_committed_record_is_of_todays_parameters(profile: str) -> None:
    records = sorted((ROOT / "results" / profile / "records").rglob("*.json"))
    assert [str(file) for file in records if outdated(json.loads(file.read_text()))] == []


@pytest.mark.parametrize("profile", OWN_FOLDERS)
def test_a_record_of_other_parameters_is_outdated(profile: str) -> None:
    grid = load_grid(profile)
    for (dataset, backbone), method in itertools.product(grid.settings, grid.methods):
        config = load_run(dataset, backbone, method, grid.seeds[0], profile).as_dict()
        cell = {"profile": profile, "dataset": dataset, "backbone": backbone, "method": method}
        record = {"cell": cell | {"seed": grid.seeds[0]}, "config": config}
        assert not outdated(json.loads(json.dumps(record)))
        config["training"]["epochs"] += 1
        assert outdated(record)
