"""Every setting of the system; see `schema` for what each one means."""

from pixelglobal.config.overrides import from_dict, load, parse_override, resolve, save, variant, with_settings
from pixelglobal.config.presets import PRESETS
from pixelglobal.config.schema import (
    Cluster,
    Config,
    Evaluate,
    Finetune,
    Network,
    Precision,
    Prepare,
    Pretrain,
    Views,
)

__all__ = [
    "PRESETS",
    "Cluster",
    "Config",
    "Evaluate",
    "Finetune",
    "Network",
    "Precision",
    "Prepare",
    "Pretrain",
    "Views",
    "from_dict",
    "load",
    "parse_override",
    "resolve",
    "save",
    "variant",
    "with_settings",
]
