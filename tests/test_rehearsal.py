"""The paper profile's rehearsal: its pipeline for real, on digits, in a repository of its own, killed on the way."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from processes import crew, printed, running, start, until

ROOT = Path(__file__).parents[1]
COPIED = (
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "paper/dvc.yaml"),
    *("data/datasets.yaml", "methods.yaml", "notebooks", "fingerprints", "smoot", "workbench", "results/benchmarks"),
)
METHODS, SEEDS, BACKBONE = ["plain", "smoot"], [0, 1], "two_conv_small"
SETTING = f"digits-{BACKBONE}"
STAGES = {
    *("data@digits", "methods", "judge", "tables", "figures"),
    *(f"{stage}@{SETTING}" for stage in ("train", "evaluate", "retrain")),
}
REPRO = ("dvc", "repro", "paper/dvc.yaml")


@dataclass(frozen=True)
class Repository:
    """A copy of this repository with nothing made yet and a digits-sized paper profile, committed."""

    root: Path

    @classmethod
    def new(cls, root: Path) -> "Repository":
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        for name in COPIED:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=ignored)
            else:
                shutil.copyfile(ROOT / name, root / name)
        params = yaml.safe_load((ROOT / "tests" / "smoke.yaml").read_text())
        params |= {"profile": "paper", "repository": "..", "folder": "paper/", "shared": "paper/params.yaml"}
        params |= {"seeds": SEEDS, "workers": 1}
        settings = {SETTING: {"dataset": "digits", "backbone": BACKBONE}}
        params["grid"] = {"datasets": ["digits"], "settings": settings, "methods": METHODS}
        paper = yaml.safe_load((ROOT / "paper" / "params.yaml").read_text())
        params["training"] = paper["training"] | {"epochs": 8, "batch_size": 32, "device": "cpu"}
        claims = [claim for claim in params["claims"] if claim["reference"] == "plain" and not claim.get("settings")]
        params["claims"] = claims
        (root / "paper" / "params.yaml").write_text(yaml.safe_dump(params))
        repository = cls(root)
        repository.git("init", "--quiet")
        repository.commit()
        return repository

    @property
    def environment(self) -> dict[str, str]:
        """This environment's commands on the copy's code; no settings of this machine."""
        commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("SMOOT_", "DVC_", "GIT_"))}
        given = {"PATH": commands, "SMOOT_ROOT": str(self.root), "PYTHONPATH": str(self.root)}
        settings = {f"DVC_{name}_DIR": str(self.root.parent / "dvc") for name in ("SITE_CACHE", "GLOBAL_CONFIG")}
        return outer | given | settings | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def run(self, *command: str, **given: str) -> str:
        """What a command prints; it must end well."""
        return printed(command, cwd=self.root, env=self.environment | given)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, unheard."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return start(command, cwd=self.root, env=self.environment, **quiet)

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", *arguments)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Everything")

    def status(self, *options: str) -> list[tuple[str, str]]:
        """git's two letters and the path of every file that is not as committed."""
        lines = self.git("status", "--porcelain", "--untracked-files=all", "-z", *options).split("\0")
        return [(line[:2], line[3:]) for line in lines if line]

    def files(self, folder: str, name: str) -> list[Path]:
        return sorted((self.root / folder).rglob(name))


@dataclass(frozen=True)
class Rehearsal:
    """A repository where the pipeline ran after it had been killed, and its results are committed."""

    repository: Repository
    left_over: list[int]
    printed: str
    changed: list[tuple[str, str]]


def kill_in_training(repository: Repository) -> list[int]:
    """Start the pipeline, kill its process group once an epoch is trained; the processes that stay."""
    process = repository.start(*REPRO)
    try:
        assert until(lambda: repository.files("scratch/ledger/train", "checkpoint.pt") or process.poll() is not None)
        members = crew(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    until(lambda: not any(map(running, members)))
    return [pid for pid in members if running(pid)]


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    repository = Repository.new(tmp_path_factory.mktemp("rehearsal") / "repository")
    left_over = kill_in_training(repository)
    printed = repository.run(*REPRO)
    changed = repository.status("--ignored")
    repository.commit()
    return Rehearsal(repository, left_over, printed, changed)


def test_a_killed_run_leaves_no_process_and_goes_on_with_the_same_command(rehearsal: Rehearsal) -> None:
    assert rehearsal.left_over == []
    ran = re.findall(r"Running stage 'paper/dvc.yaml:(.*)'", rehearsal.printed)
    assert len(set(ran)) == len(ran)
    # DVC may have run these before it was killed.
    assert {*ran, "judge", "methods"} == STAGES - {"data@digits"}
    assert len(rehearsal.repository.files("scratch/ledger/train", "done")) == len(METHODS) * len(SEEDS)


def test_every_stage_made_what_it_promises(rehearsal: Rehearsal) -> None:
    root = rehearsal.repository.root
    assert set(yaml.safe_load((root / "paper" / "dvc.lock").read_text())["stages"]) == STAGES
    for method in METHODS:
        weights = sorted(path.name for path in (root / "runs/paper/weights" / SETTING / method).iterdir())
        assert weights == ["0.safetensors", "1.safetensors"]
    runs = [[method, seed] for method in METHODS for seed in SEEDS]
    for name in ("runs", "epochs", "curves", "retraining", "provenance"):
        table = pd.read_csv(root / "results/paper" / SETTING / f"{name}.csv")
        assert table[["method", "seed"]].drop_duplicates().to_numpy().tolist() == runs, name
    assert {file.name for file in (root / "results/paper" / SETTING).iterdir()} >= {"samples.npz", "config.json"}
    assert len(list((root / "runs/paper/judge").glob("digits-*.safetensors"))) == 2
    assert (root / "results/paper/judges.csv").is_file()
    assert (root / "data/manifest/paper/digits.json").is_file()
    assert (root / "figures/paper/report.html").is_file()
    for folder, name in (("tables", "*.md"), ("plots", "*.png")):
        assert rehearsal.repository.files(f"figures/paper/{folder}", name)


def test_it_runs_the_copy_and_writes_into_folders_of_its_own(rehearsal: Rehearsal) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('smoot').origin)"
    package = rehearsal.repository.run("python", "-P", "-c", code).strip()
    assert package == str(rehearsal.repository.root / "smoot" / "__init__.py")
    assert {letters for letters, _ in rehearsal.changed} == {"??", "!!"}
    known = (".dvc/cache/", ".dvc/tmp/", "scratch/locks/", "dvc.lock")  # the lock of the stage `code`
    written = [Path(path) for _, path in rehearsal.changed if not path.startswith(known)]
    others = [path for path in written if "paper" not in path.parts and "__pycache__" not in path.parts]
    assert others == []


def test_a_second_run_has_nothing_to_do(rehearsal: Rehearsal) -> None:
    printed = rehearsal.repository.run(*REPRO)
    assert "Data and pipelines are up to date." in printed
    assert "Running stage" not in printed
    assert rehearsal.repository.status() == []


def test_the_command_of_an_accelerator_gives_the_same_from_nothing(rehearsal: Rehearsal) -> None:
    """`make gpu`: the environment, then this command."""
    assert "workbench grid --profile paper" in (ROOT / "Makefile").read_text()
    command = (sys.executable, "-m", "workbench", "grid", "--profile", "paper")
    kept = rehearsal.repository.files("scratch/ledger", "done")
    before = {file: file.stat().st_mtime_ns for file in kept}
    printed = rehearsal.repository.run(*command, SMOOT_LEDGER="off")
    assert all(file.stat().st_mtime_ns > time for file, time in before.items())  # computed afresh, to the last byte
    assert f"paper, setting 1 of 1: digits, {BACKBONE}" in printed
    assert [line.split(":")[0].strip() for line in printed.splitlines() if "accuracy" in line] == METHODS
    assert rehearsal.repository.status() == []
