"""What the options of functions and commands may be, and what several of them need."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

DEFAULT_PRESET = "small"

AnyPath = str | os.PathLike[str]
Settings = Sequence[str] | Mapping[str, Any]
Progress = Callable[[float, int], None]
Unit = Literal["patient", "slice", "both"]
PairedTest = Literal["sign_flip", "wilcoxon", "t"]
Claim = Literal["checkpoint", "method"]
Correction = Literal["holm", "bh", "none"]
Family = Literal["holm", "sequence"]
Missing = Literal["refuse", "zero", "drop-patient"]
ExportTarget = Literal["timm", "smp", "monai", "nnunet", "torchscript", "onnx"]
MetricName = Literal["dice", "hausdorff", "hausdorff95", "surface_dice"]


def map_of(on_ray: bool) -> Callable[..., Any]:
    """The plain `map`, or the one that spreads the work over Ray, which is started."""
    if not on_ray:
        return map
    from pixelglobal.cluster.map import map_on_ray
    from pixelglobal.cluster.resources import start_ray

    start_ray()
    return map_on_ray
