"""The pipeline: one text for every profile, fingerprints as its stages' code, and results that are up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import papermill
import pytest
import yaml
from processes import PATIENCE, printed

import workbench
from workbench.config import paths
from workbench.config.profile import load_grid
from workbench.runner.fingerprints import NOTEBOOKS, notebook_text, room_text, rooms
from workbench.stages import runs
from workbench.studies.choice import LATER, PROFILES

ROOT = Path(workbench.__file__).parents[1]
TEXT = (ROOT / "dvc.yaml").read_text()
RAW: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["stages"]
STAGES = {name: stage.get("do", stage) for name, stage in RAW.items()}  # of a repeated stage, what is repeated
COMMITTED = ("results/", "figures/", "data/", "fingerprints")
OWN_FOLDERS = {name: file.parent for name, file in paths.profiles().items() if name not in ("laptop", "smoke")}
# Set up, and not run yet: no results.
NOT_LOCKED = {"paper"}


def fingerprints_of(stage: dict[str, Any]) -> set[str]:
    """The rooms and notebooks on whose fingerprints a stage depends."""
    return {Path(dep).stem for dep in stage["deps"] if dep.startswith("fingerprints/")}


def dvc(clone: Path, *arguments: str, fails: bool = False) -> str:
    """What DVC prints in a clone, with the clone's own code; it must end well unless it may fail."""
    ours = {"PYTHONPATH": str(clone), "SMOOT_ROOT": str(clone), "DVC_SITE_CACHE_DIR": str(clone.parent / "site")}
    environment = os.environ | ours | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command, options = [sys.executable, "-m", "dvc", *arguments], {"cwd": clone, "env": environment}
    if not fails:
        return printed(command, **options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of what is committed."""
    folder = tmp_path_factory.mktemp("pipeline") / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
    return folder


@pytest.mark.parametrize("profile", OWN_FOLDERS)
def test_every_profile_has_the_same_pipeline_but_for_the_code_and_the_choice(profile: str) -> None:
    copy = OWN_FOLDERS[profile] / "dvc.yaml"
    before, shared, after = re.split(r"(?ms)^(  code:\n.*?)(?=^  data:)", TEXT)
    assert list(yaml.safe_load(shared)) == ["code", "choice"]
    assert copy.read_text() == before + after
    assert not copy.is_symlink()


@pytest.mark.parametrize("profile", ["laptop", *OWN_FOLDERS])
def test_a_profile_says_where_it_is(profile: str) -> None:
    file = paths.params_file(profile)
    said = yaml.safe_load(file.read_text())
    assert said["profile"] == profile
    assert (file.parent / said["repository"]).resolve() == ROOT
    assert ROOT / said["folder"] / "params.yaml" == file
    assert (ROOT / said["shared"]).is_file()


@pytest.mark.parametrize("name", STAGES)
def test_outs_belong_to_one_profile_and_committed_ones_are_in_git(name: str) -> None:
    for out in STAGES[name]["outs"]:
        path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
        assert "${profile}" in path or path in ("fingerprints", "figures/choice")
        assert "provenance" not in path
        if path.startswith(COMMITTED):
            assert options == {"cache": False}, path


@pytest.mark.parametrize("job", [runs.Train, runs.Evaluate, runs.Judge, runs.Retrain])
def test_a_stage_depends_on_the_code_that_its_results_are_keyed_to(job: type[runs.Job]) -> None:
    assert fingerprints_of(STAGES[job.stage]) - set(NOTEBOOKS) == set(job.rooms)


def test_the_choice_depends_on_every_regime_and_trains_none() -> None:
    regimes = [setting for name in (*PROFILES, *LATER) for setting in load_grid(name).setting_paths]
    results = [dep for dep in STAGES["choice"]["deps"] if dep.startswith("results/")]
    assert results == [(one.folder / "provenance.csv").relative_to(paths.ROOT).as_posix() for one in regimes]


def test_stages_depend_on_fingerprints_and_never_on_sources() -> None:
    for name, stage in STAGES.items():
        if name != "code":
            assert not [dep for dep in stage["deps"] if dep.endswith((".py", ".ipynb"))], name
            assert fingerprints_of(stage) <= {*rooms(), *NOTEBOOKS}, name


def test_stages_depend_on_every_parameter_that_decides_a_result() -> None:
    used: dict[str, set[str]] = {"${folder}params.yaml": set(), "${shared}": set(), "methods.yaml": set()}
    for block in (block for stage in STAGES.values() for block in stage.get("params", [])):
        for file, keys in block.items():
            used[file] |= {key.partition(".")[0] for key in keys or ["everything"]}
    own = {"grid", "seeds", "datasets", "methods", "regime", "claims", "study"}
    shared = {"backbones", "training", "evaluation", "judge", "retraining"}
    assert used == {"${folder}params.yaml": own, "${shared}": shared, "methods.yaml": {"everything"}}
    places = {"profile", "repository", "folder", "shared", "workers"}  # what decides no number
    assert set(yaml.safe_load((ROOT / "params.yaml").read_text())) == own | shared | places


def test_a_stage_passes_each_parameter_of_its_notebook_and_no_other() -> None:
    found = []
    for stage in STAGES.values():
        if run := re.search(r"notebook run (notebooks/\S+\.ipynb) \S+ (.*)", stage["cmd"]):
            parameters = set(papermill.inspect_notebook(ROOT / run[1]))
            assert set(re.findall(r"-p (\w+)", run[2])) == parameters - {"seeds"}, run[1]  # those are the profile's
            found.append(Path(run[1]).stem)
    assert found == list(NOTEBOOKS)


def test_the_fingerprints_are_those_of_the_code() -> None:
    texts = {name: room_text(folder) for name, folder in rooms().items()}
    texts |= {stem: notebook_text(ROOT / "notebooks" / f"{stem}.ipynb") for stem in NOTEBOOKS}
    written = fingerprint_files(ROOT)
    assert sorted(written) == sorted(texts)
    assert [name for name in texts if written[name] != texts[name]] == [], "run `python -m workbench code`"


def test_the_committed_results_are_up_to_date_on_a_fresh_clone(clone: Path) -> None:
    """`code` alone may want to run, after a changed comment: that its files stay as they are is tested above."""
    locked = ["laptop", *sorted(set(OWN_FOLDERS) - NOT_LOCKED)]
    files = [paths.params_file(profile).with_name("dvc.yaml").relative_to(ROOT) for profile in locked]
    said = dvc(clone, "repro", "--allow-missing", "--dry", *map(str, files))
    assert set(re.findall(r"Running stage '(.*)'", said)) <= {"code"}


def test_dvc_reads_every_stage_of_the_paper_profile(clone: Path) -> None:
    grid = load_grid("paper")
    settings = ["-".join(setting) for setting in grid.settings]
    expected = [f"{stage}@{setting}" for stage in ("train", "evaluate", "retrain") for setting in settings]
    expected += [*(f"data@{name}" for name in grid.datasets), "methods", "judge", "tables", "figures"]
    listed = dvc(clone, "stage", "list", "paper/dvc.yaml", "--name-only")
    assert sorted(line.rpartition(":")[2] for line in listed.split()) == sorted(expected)


def planned(clone: Path) -> set[str]:
    """The stages that DVC would run; those whose weights a clone lacks are among the ones it could not reproduce."""
    said = dvc(clone, "repro", "--allow-missing", "--dry", "--keep-going", "dvc.yaml", fails=True)
    missing = re.findall(r"'(.*?)'", "\n".join(line for line in said.splitlines() if "failed to reproduce" in line))
    return {name.partition("@")[0] for name in [*re.findall(r"Running stage '(.*)'", said), *missing]}


def fingerprint_files(root: Path) -> dict[str, str]:
    return {file.stem: file.read_text() for file in (root / "fingerprints").iterdir()}


def test_a_comment_makes_nothing_stale_and_a_constant_or_a_parameter_only_what_depends_on_it(clone: Path) -> None:
    before = fingerprint_files(clone)
    core, pool, params = clone / "smoot/objective.py", clone / "workbench/runner/pool.py", clone / "params.yaml"
    texts = {file: file.read_text() for file in (core, pool, params)}
    for file in (core, pool):
        file.write_text("# Another comment.\n" + texts[file].replace('"""', '"""Another word. ', 1))
    dvc(clone, "repro", "code")
    assert fingerprint_files(clone) == before
    core.write_text(core.read_text() + "\n_ANOTHER = 1\n")
    dvc(clone, "repro", "code")
    after = fingerprint_files(clone)
    assert [name for name in before if after[name] != before[name]] == ["smoot"]
    stale = planned(clone)
    assert {"methods", "train", "judge", "evaluate", "retrain"} <= stale and not {"data", "code"} & stale
    for name, content in before.items():
        (clone / "fingerprints" / f"{name}.txt").write_text(content)
    core.write_text(texts[core])
    params.write_text(re.sub(r"(?m)^seeds: \[\d+", "seeds: [77", texts[params], count=1))
    assert params.read_text() != texts[params]
    assert "train" in planned(clone)
    for file, text in texts.items():
        file.write_text(text)
