"""What is claimed and what a study shows: the blocks ``claims`` and ``study`` of a profile, as frozen dataclasses.

A study is a profile whose methods are the variants of a question. The block says which exhibits answer it;
``null`` in ordinary profiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from workbench.config.profile import block_name, check_settings, load_grid, read_profile
from workbench.config.schema import build
from workbench.reporting.chance import controlled

CHANCE = "chance"  # as a claim's reference
Exhibit: TypeAlias = Literal["log", "comparison", "oracle"]


@dataclass(frozen=True)
class Claim:
    """A sentence about the results, written before they are looked at.

    Attributes:
        name: as the table shows it.
        metric: of a run record.
        better: whether higher or lower values are better.
        method, reference: the first is said to be better than the second, paired by seed. The reference `CHANCE` is a
            random map on the runs of the method itself.
        family: claims that share it, and the setting, share Holm's adjustment.
        margin: how much worse than the reference is still not worse, in the metric's unit; 0 claims better.
        p: the adjusted p-value that is required.
        settings: names ``DATASET-BACKBONE``; empty for all.
    """

    name: str
    metric: str
    better: Literal["higher", "lower"]
    method: str
    reference: str
    family: str
    margin: float = 0.0
    p: float = 0.05
    settings: tuple[str, ...] = ()

    @property
    def against_chance(self) -> bool:
        """Whether the reference is a random map."""
        return self.reference == CHANCE

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:  # shares lie in [0, 1]: a margin of 1 would hold whatever comes out
            raise ValueError(f"margin is {self.margin}: expected a number from 0 to below 1, in the metric's unit")
        if not 0 <= self.p <= 1:
            raise ValueError(f"p is {self.p}: expected a probability in [0, 1]")


@dataclass(frozen=True)
class _Claims:
    """The block ``claims``."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Study:
    """The block ``study``.

    Attributes:
        title: of the study.
        exhibits: the tables and figures that answer it.
        reference: the method that differences are taken to.
        note: a sentence or more for captions; may be empty.
        compared: the methods of exhibit ``comparison`` in order; all if empty.
    """

    title: str
    exhibits: tuple[Exhibit, ...]
    reference: str
    note: str = ""
    compared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_list("exhibits", self.exhibits)
        if self.compared:
            _check_list("compared", self.compared)


def load_claims(profile: str) -> tuple[Claim, ...]:
    """The claims of a profile, in the order of its file.

    Raises:
        ValueError: for an unknown or missing key, a wrong type, a value out of range, a method or setting that the
            grid does not have, a metric against chance that is not measured of a random map, or a name twice.
    """
    values = {"claims": read_profile(profile)["claims"]}
    claims: tuple[Claim, ...] = build(_Claims, values, block_name(profile, "claims").removesuffix(": claims")).claims
    grid = load_grid(profile)
    names = [claim.name for claim in claims]
    known = controlled(read_profile(profile)["evaluation"]["fills"])
    for claim in claims:
        where = block_name(profile, f"claims, {claim.name!r}")
        if claim.against_chance and claim.metric not in known:
            raise ValueError(f"{where}: {claim.metric!r} has no value by chance: expected {', '.join(known)}")
        for method in (claim.method,) if claim.against_chance else (claim.method, claim.reference):
            if method not in grid.methods:
                raise ValueError(f"{where}: unknown method {method!r}: expected {', '.join(grid.methods)}")
        if names.count(claim.name) > 1:
            raise ValueError(f"{where} stands there twice: expected a name of its own for each claim")
        check_settings(claim.settings, grid, where)
    return claims


def load_study(profile: str) -> Study | None:
    """The study of a profile; None if it is none.

    Raises:
        ValueError: for an unknown or missing key, a wrong type, a value out of range, or a method that is not one of
            the grid's.
    """
    values = read_profile(profile)["study"]
    if values is None:
        return None
    where = block_name(profile, "study")
    study: Study = build(Study, values, where)
    methods = load_grid(profile).methods
    named = [("reference", study.reference), *(("compared", method) for method in study.compared)]
    for key, method in named:
        if method not in methods:
            raise ValueError(f"{where}.{key} names {method!r}: expected one of {', '.join(methods)}")
    return study


def _check_list(name: str, values: Sequence[str]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} is {list(values)}: expected at least one, and none of them twice")
