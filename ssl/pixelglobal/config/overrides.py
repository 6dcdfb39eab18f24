"""From a preset and overrides to a config, and configs as JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixelglobal.config.presets import PRESETS
from pixelglobal.config.registry import METHODS, method_class, variants
from pixelglobal.config.schema import Config
from pixelglobal.files import read_json_object, write_json


def resolve(preset: str = "paper", overrides: Sequence[str] | Mapping[str, Any] = ()) -> Config:
    """The config that a preset and overrides describe.

    overrides: `["pretrain.batch_size=4", "seed=1"]` from the command line (values are read as JSON, else as text),
    or the same as a nested dictionary. Raises ValueError that names the key, what was seen and what is known.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    asked: dict[str, Any] = {}
    for override in [overrides] if isinstance(overrides, Mapping) else map(parse_override, overrides):
        _merge(asked, override)
    values: dict[str, Any] = json.loads(json.dumps(PRESETS[preset]))
    chosen = str(asked.get("pretrain", {}).get("method", "pixel_global"))
    for method in {*METHODS, chosen}:
        known = method_class(method)
        values[known.name] = dict(known.Settings.presets.get(preset, {}))
    _merge(values, asked)
    return from_dict(values)


def parse_override(text: str) -> dict[str, Any]:
    """`"a.b=1"` as `{"a": {"b": 1}}`."""
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"cannot read {text!r}: write section.name=value, for example pretrain.batch_size=4")
    try:
        value = json.loads(raw)
    except json.JSONDecodeError:
        value = raw
    section, *parts = key.strip().split(".")
    for part in reversed(parts):
        value = {part: value}
    return {section: value}


def from_dict(values: Mapping[str, Any]) -> Config:
    """A config from nested dictionaries; a pydantic error becomes one readable ValueError."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(_readable(problem) for problem in error.errors())) from None


def with_settings(config: Config, **sections: Mapping[str, Any]) -> Config:
    """A copy with some settings changed and everything checked again: `with_settings(c, pretrain={"epochs": 3})`."""
    values = config.model_dump(mode="json")
    _merge(values, sections)
    return from_dict(values)


def variant(config: Config, name: str) -> Config:
    """The config of a method as studies name it: gl, pgl, ..., or go, gp, gpc and full, the paper's ablation."""
    if name not in variants():
        raise ValueError(f"unknown method {name!r}: choose one of {', '.join(variants())}")
    method, chosen = variants()[name]
    return with_settings(config, pretrain={"method": method}, **{method: chosen.settings})


def save(config: Config, path: Path) -> None:
    """Write the resolved config as JSON, whole or not at all."""
    write_json(path, config.model_dump(mode="json"))


def load(path: Path) -> Config:
    """Read a config that `save` wrote."""
    return from_dict(read_json_object(path))


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _readable(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        return message
    return f"{where}={problem['input']!r}: {message}"
