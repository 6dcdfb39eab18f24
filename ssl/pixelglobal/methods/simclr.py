"""SimCLR: the global half of GL with plain negatives, every augmentation, and BN in the head.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations".
"""

from __future__ import annotations

from pixelglobal.config.overrides import with_settings
from pixelglobal.config.schema import Config
from pixelglobal.methods.gl import Gl


class SimClr(Gl):
    """`gl.*` set to SimCLR's values; its own are `simclr.*`."""

    citation = "Chen et al. 2020, A simple framework for contrastive learning of visual representations"

    def __init__(self, config: Config) -> None:
        plain = {"variant": "random", "schedule": "global_only", "flips": True, "rotation": True}
        own = config.simclr.model_dump()
        super().__init__(with_settings(config, gl={**plain, "head_batch_norm": True, **own}))
