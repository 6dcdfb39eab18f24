"""Every setting of the system; see `schema` for what each one means."""

from pixelglobal.config.overrides import from_dict, load, parse_override, resolve, save, variant, with_settings
from pixelglobal.config.presets import PRESETS, VARIANTS
from pixelglobal.config.schema import (
    PRETRAIN_WITHOUT_EFFECT,
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
    "PRETRAIN_WITHOUT_EFFECT",
    "VARIANTS",
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
