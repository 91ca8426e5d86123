"""Methods by name: the registry ``methods.yaml``, and the variants in a profile's block ``methods``.

An entry says everything about a method: how it is shown (``title``, ``colour``, ``marker``) and its parameters, the
keys of :class:`workbench.config.run.MethodConfig`. ``like: OTHER`` inherits the parameters of another entry; keys given
beside it replace inherited ones, and inside a mapping such as ``plan`` they replace only the inherited keys of the
same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from workbench.config.schema import build, check_name, nameless


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
            for name in entries:
                check_name(name, f"{where}: a method")
        for name in self.own:
            if name in self.shared:
                raise ValueError(
                    f"{self.own_block}.{name}: {self.shared_file} has a method of this name: expected another name"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Of all methods, the registry's first."""
        return (*self.shared, *self.own)

    def where(self, name: str) -> str:
        """The place of an entry, as errors name it."""
        return f"{self.own_block}.{name}" if name in self.own else f"{self.shared_file}: {name}"

    def entry(self, name: str) -> MethodEntry:
        """How a method is shown; title, colour and marker are never inherited.

        Raises:
            ValueError: as :meth:`parameters`; also without a title.
        """
        looks = {key: value for key, value in self._given(name).items() if key in LOOKS}
        return build(MethodEntry, looks, self.where(name))

    def parameters(self, name: str, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
        """The parameters that an entry gives or inherits, as they stand in the files: not checked yet.

        Args:
            name: of the entry.
            heirs: the entries that inherit from it, the one that was asked for first.

        Raises:
            ValueError: for an unknown name, an entry that is no mapping, or one that inherits from itself.
        """
        if name in heirs:
            raise ValueError(f"{self.where(name)}: like leads back to itself: {' → '.join([*heirs, name])}")
        given = {key: value for key, value in self._given(name).items() if key not in LOOKS}
        if "like" not in given:
            return given
        like = given.pop("like")
        if like not in self.names:
            raise ValueError(f"{self.where(name)}.like is {like!r}: expected one of {', '.join(self.names)}")
        inherited = self.parameters(like, (*heirs, name))
        both = [key for key in given if isinstance(given[key], Mapping) and isinstance(inherited.get(key), Mapping)]
        return inherited | given | {key: {**inherited[key], **given[key]} for key in both}

    def _given(self, name: str) -> Mapping[str, Any]:
        """What the entry itself gives."""
        if name not in self.names:
            raise ValueError(
                f"unknown method {name!r}: {self.own_block} and {self.shared_file} define {', '.join(self.names)}"
            )
        return nameless((self.own if name in self.own else self.shared)[name], name, self.where(name))
