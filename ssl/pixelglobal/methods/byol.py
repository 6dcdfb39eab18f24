"""BYOL: PGL with one vector an image, so that there is nothing to align.

Source: Grill et al. 2020, "Bootstrap your own latent".
"""

from __future__ import annotations

from pixelglobal.config.overrides import with_settings
from pixelglobal.config.schema import Config
from pixelglobal.methods.pgl import Pgl


class Byol(Pgl):
    """`pgl.*` set to BYOL's values; its own are `byol.*`."""

    citation = "Grill et al. 2020, Bootstrap your own latent: a new approach to self-supervised learning"

    def __init__(self, config: Config) -> None:
        pooled = {"alignment": "pooled", "stride": 32}
        super().__init__(with_settings(config, pgl={**pooled, **config.byol.model_dump()}))
