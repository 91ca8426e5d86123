"""Paths: nothing depends on the working directory, and a missing file is named with what makes it."""

import runpy
from pathlib import Path

import pytest

from workbench.config import paths
from workbench.config.paths import ProfilePaths, SettingPaths, required

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("given", [None, "", "absolute", "relative"])
def test_another_checkout_by_environment_variable_from_any_folder(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    if given is None:
        monkeypatch.delenv("SMOOT_ROOT", raising=False)
    else:
        root = {"": "", "absolute": str(tmp_path / "elsewhere"), "relative": "elsewhere"}[given]
        monkeypatch.setenv("SMOOT_ROOT", root)
    loaded = runpy.run_path(paths.__file__)
    expected = tmp_path / "elsewhere" if given else REPOSITORY
    assert (loaded["ROOT"], loaded["LEDGER"]) == (expected, expected / "scratch" / "ledger")


def test_the_profiles_are_laptop_smoke_and_every_folder_with_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name in ("zoo", "mine", "empty", "deep/er", "studies/one"):
        (tmp_path / name).mkdir(parents=True)
        if name != "empty":
            (tmp_path / name / "params.yaml").write_text("profile: x\n")
    assert paths.profiles() == {
        "laptop": tmp_path / "params.yaml",
        "smoke": tmp_path / "tests" / "smoke.yaml",
        "mine": tmp_path / "mine" / "params.yaml",
        "zoo": tmp_path / "zoo" / "params.yaml",
        "one": tmp_path / "studies" / "one" / "params.yaml",
    }


@pytest.mark.parametrize("name", ["paper2", "", "../paper", "Laptop"])
def test_an_unknown_profile_is_named_with_those_there_are(name: str) -> None:
    for call in (paths.params_file, ProfilePaths):
        with pytest.raises(ValueError, match="expected one of laptop, smoke, paper") as caught:
            call(name)
        assert f"unknown profile {name!r}" in str(caught.value)


def places(owner: object) -> dict[str, Path]:
    """Every path that a dataclass of paths has."""
    found = {name: getattr(owner, name) for name, kind in vars(type(owner)).items() if isinstance(kind, property)}
    return {name: path for name, path in found.items() if isinstance(path, Path)}


def test_a_profiles_places() -> None:
    found = {name: path.relative_to(REPOSITORY).as_posix() for name, path in places(ProfilePaths("paper")).items()}
    assert found["judges"] == "results/paper/judges.csv"
    assert found["methods"] == "results/paper/methods.json"
    assert found["manifest"] == "data/manifest/paper"
    assert found["plots"] == "figures/paper/plots"
    assert all("/paper" in place for place in found.values()), "a profile's files are its own"
    assert len(set(found.values())) == len(found)


def test_a_settings_places() -> None:
    setting = SettingPaths("paper", "mnist", "resnet18")
    assert setting.runs == REPOSITORY / "results/paper/mnist-resnet18/runs.csv"
    assert setting.weights("sgt", 3) == REPOSITORY / "runs/paper/weights/mnist-resnet18/sgt/3.safetensors"
    assert all("mnist-resnet18" in path.parts for path in places(setting).values())


def test_the_smoke_profile_writes_below_runs_smoke_only() -> None:
    found = places(ProfilePaths("smoke")) | places(SettingPaths("smoke", "digits", "two_conv_small"))
    assert all(path.is_relative_to(REPOSITORY / "runs" / "smoke") for path in found.values())


@pytest.mark.parametrize(
    ("profile", "command"),
    [
        ("laptop", "`dvc repro train@mnist-two_conv`"),
        ("paper", "`dvc repro paper/dvc.yaml:train@mnist-two_conv`"),
        ("number", "`dvc repro studies/number/dvc.yaml:train@mnist-two_conv`"),
        ("smoke", "the train notebook with profile=smoke, dataset=mnist, backbone=two_conv"),
    ],
)
def test_a_missing_file_is_named_with_what_makes_it(profile: str, command: str, tmp_path: Path) -> None:
    made_by = SettingPaths(profile, "mnist", "two_conv").made_by("train")
    with pytest.raises(FileNotFoundError) as caught:
        required(tmp_path / "runs.csv", made_by)
    assert str(caught.value) == f"{tmp_path / 'runs.csv'} is missing: {command} makes it"
    (tmp_path / "runs.csv").touch()
    assert required(tmp_path / "runs.csv", made_by) == tmp_path / "runs.csv"
