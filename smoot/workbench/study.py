"""What a study shows: the block ``study`` of a profile's parameters, as frozen dataclasses.

A study is a profile whose methods are the variants of a question. The block says which exhibits answer it;
``null`` in ordinary profiles.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from smoot.checks import check_between
from smoot.workbench.config import load_grid, read_profile
from smoot.workbench.paths import params_file
from smoot.workbench.results import RunRecord
from smoot.workbench.schema import build

Exhibit: TypeAlias = Literal["factorial", "oracle", "sweep", "comparison", "choice", "conditions"]


@dataclass(frozen=True)
class Choice:
    """The rule that a method is chosen by, written before the runs that it is applied to.

    Attributes:
        candidates: methods that can be chosen; the first of equals is.
        accuracy: the metric of the runs' records that must not fall.
        margin: how far a candidate may be below the most accurate one, in that metric's unit.
        faithfulness: the metrics that decide among the rest; higher is better in all.
    """

    candidates: tuple[str, ...]
    accuracy: str
    margin: float
    faithfulness: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_list("candidates", self.candidates)
        _check_list("faithfulness", self.faithfulness)
        check_between("margin", self.margin, 0.0, float("inf"))


@dataclass(frozen=True)
class Condition:
    """One level of a condition under which methods were trained, such as 500 training images.

    Attributes:
        axis: what is varied, as figures name it.
        level: as figures name it; a number if it reads as one.
        methods: for each base method the profile's method that is it at this level.
    """

    axis: str
    level: str
    methods: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("methods is {}: expected at least one base method and the profile's method for it")
        for base, method in self.methods.items():
            if not isinstance(method, str):
                raise ValueError(f"methods.{base} is {method!r}: expected a method's name")


@dataclass(frozen=True)
class Study:
    """The block ``study``.

    Attributes:
        title: of the study.
        exhibits: the tables and figures that answer it.
        reference: the method that differences are taken to.
        note: a sentence or more for captions; may be empty.
        compared: the methods of exhibit ``comparison`` in order; all if empty.
        choice: the rule of exhibit ``choice``.
        conditions: of exhibit ``conditions``, level by level.
    """

    title: str
    exhibits: tuple[Exhibit, ...]
    reference: str
    note: str = ""
    compared: tuple[str, ...] = ()
    choice: Choice | None = None
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        _check_list("exhibits", self.exhibits)
        if self.compared:
            _check_list("compared", self.compared)
        for exhibit, found in {"choice": self.choice is not None, "conditions": bool(self.conditions)}.items():
            if (exhibit in self.exhibits) != found:
                raise ValueError(
                    f"exhibits is {list(self.exhibits)}: {exhibit!r} and the key {exhibit} need each other"
                )

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """The methods that each key names."""
        conditions = [method for condition in self.conditions for method in condition.methods.values()]
        return {
            "reference": (self.reference,),
            "compared": self.compared,
            "choice.candidates": self.choice.candidates if self.choice else (),
            "conditions": tuple(conditions),
        }

    def shown(self, methods: Sequence[str]) -> tuple[str, ...]:
        """The methods of exhibit ``comparison``, of all those of the grid."""
        return self.compared or tuple(methods)


def load_study(profile: str) -> Study | None:
    """The study of a profile; None if it is none.

    Raises:
        ValueError: for an unknown or missing key, a wrong type, a value out of range, or a method that is not
            one of the grid's.
    """
    values = read_profile(profile)["study"]
    if values is None:
        return None
    where = f"{params_file(profile).name}: study"
    study: Study = build(Study, values, where)
    methods = load_grid(profile).methods
    for key, named in study.named.items():
        for method in named:
            if method not in methods:
                raise ValueError(f"{where}.{key} names {method!r}: expected one of {', '.join(methods)}")
    return study


def remarks(study: Study, records: Iterable[RunRecord]) -> str:
    """What every caption of a study ends with: its note, and on which images was measured if not on the test split."""
    development = any(record.config["dataset"].get("development_images") for record in records)
    images = "Measured on development images, drawn from the rest of the training split, never on test images."
    return " ".join(part for part in (study.note.strip(), images if development else "") if part)


def _check_list(name: str, values: Sequence[str]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} is {list(values)}: expected at least one, and none of them twice")
