"""A group of settings: frozen, typed, and strict about names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know and suggests the nearest one it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    without_effect: ClassVar[frozenset[str]] = frozenset()  # settings that no result depends on: speed, logging
    # Settings of a later version, with the value that says what was done before: an address names only other values.
    added: ClassVar[Mapping[str, Any]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # a method's values in each preset

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for name in values:
                if name not in cls.model_fields:
                    raise ValueError(unknown_name_message(str(name), list(cls.model_fields), cls.__name__))
        return values

    def effective(self) -> dict[str, Any]:
        """The settings that a result depends on, as JSON values."""
        values = self.model_dump(mode="json").items()
        return {n: v for n, v in values if n not in self.without_effect and (n not in self.added or v != self.added[n])}


def unknown_name_message(name: str, known: Sequence[str], where: str) -> str:
    """One sentence that names the unknown word, the nearest known one, and all known ones."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown setting {name!r} in {where}: {hint}Known settings: {', '.join(known)}"
