"""Methods by name: the registry ``methods.yaml``, a profile's own variants, and what a variant takes over.

An entry says everything about a method: how it is shown (``title``, ``colour``, ``marker``) and the keys of
:class:`workbench.config.run.MethodConfig`. With ``like: OTHER`` it takes over everything of another entry but the keys
that it gives itself; a mapping given again, such as ``plan``, takes over the keys that it does not give.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from workbench.config.schema import build


@dataclass(frozen=True)
class MethodEntry:
    """How a method is shown, the same in every table and figure of every profile.

    Attributes:
        title: the name that readers see.
        colour: of lines and markers, as matplotlib understands it; None where any will do.
        marker: of points, as matplotlib understands it; None where any will do.
    """

    title: str
    colour: str | None = None
    marker: str | None = None


LOOKS = tuple(entry.name for entry in fields(MethodEntry))


@dataclass(frozen=True)
class Methods:
    """The methods that one profile can name.

    Attributes:
        shared: entries of the registry, by name.
        own: entries of the profile's block ``methods``, by name.
        shared_file, own_block: what errors call the two places.
    """

    shared: Mapping[str, Any]
    own: Mapping[str, Any]
    shared_file: str
    own_block: str

    def __post_init__(self) -> None:
        for where, entries in ((self.shared_file, self.shared), (self.own_block, self.own)):
            if not isinstance(entries, Mapping):
                raise ValueError(f"{where} is {entries!r}: expected a mapping from names to their keys")
        for name in self.own:
            if name in self.shared:
                raise ValueError(
                    f"{self.own_block}.{name}: {self.shared_file} has a method of this name: expected another name"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """All of them: the registry's first."""
        return (*self.shared, *self.own)

    def where(self, name: str) -> str:
        """The place of an entry, as errors name it."""
        return f"{self.own_block}.{name}" if name in self.own else f"{self.shared_file}: {name}"

    def entry(self, name: str) -> MethodEntry:
        """How a method is shown; colour and marker are its own, never those of the entry that it is like.

        Raises:
            ValueError: as :meth:`parameters`; also without a title.
        """
        looks = {key: value for key, value in self._given(name).items() if key in LOOKS}
        shown: MethodEntry = build(MethodEntry, looks, self.where(name))
        return shown

    def parameters(self, name: str) -> dict[str, Any]:
        """Everything else that an entry says or takes over, as it stands in the files.

        Raises:
            ValueError: for an unknown name, an entry that is no mapping, or one that is like itself in the end.
        """
        return self._resolved(name, ())

    def _resolved(self, name: str, above: tuple[str, ...]) -> dict[str, Any]:
        """The parameters of an entry that the entries ``above`` lead to."""
        if name in above:
            raise ValueError(f"{self.where(name)}: like leads back to itself: {' → '.join([*above, name])}")
        given = {key: value for key, value in self._given(name).items() if key not in LOOKS}
        if "like" not in given:
            return given
        like = given.pop("like")
        if like not in self.names:
            raise ValueError(f"{self.where(name)}.like is {like!r}: expected one of {', '.join(self.names)}")
        taken = self._resolved(like, (*above, name))
        both = [key for key in given if isinstance(given[key], Mapping) and isinstance(taken.get(key), Mapping)]
        return taken | given | {key: {**taken[key], **given[key]} for key in both}

    def _given(self, name: str) -> Mapping[str, Any]:
        """What the entry itself says."""
        if name not in self.names:
            raise ValueError(
                f"unknown method {name!r}: {self.own_block} and {self.shared_file} define {', '.join(self.names)}"
            )
        entry = self.own[name] if name in self.own else self.shared[name]
        if not isinstance(entry, Mapping):
            raise ValueError(f"{self.where(name)} is {entry!r}: expected a mapping of keys")
        if "name" in entry:
            raise ValueError(f"{self.where(name)}: unknown key 'name': its name is {name!r}")
        return entry
