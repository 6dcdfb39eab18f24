"""BYOL: PGL with one vector an image, so that there is nothing to align.

Source: Grill et al. 2020, "Bootstrap your own latent".
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, cast

from pydantic import Field

from pixelglobal.config.schema import Config
from pixelglobal.config.section import Section
from pixelglobal.methods.base import Variant
from pixelglobal.methods.crops import CropSettings
from pixelglobal.methods.pgl import Pgl, PglSettings
from pixelglobal.methods.teacher import TeacherSettings
from pixelglobal.views.pairs import ViewPlan


class ByolSettings(CropSettings, TeacherSettings):
    """BYOL (Grill et al. 2020); its crops show 8 to 100 % of the area, as SimCLR's do."""

    presets = {
        "small": {"hidden": 512, "outputs": 128, "ema_base": 0.99},
        "smoke": {"hidden": 64, "outputs": 32, "ema_base": 0.99},
    }

    hidden: int = Field(4096, ge=1)
    outputs: int = Field(256, ge=1)


class Byol(Pgl):
    """PGL set to BYOL's values."""

    name = "byol"
    Settings: ClassVar[type[Section]] = ByolSettings
    variants = {"byol": Variant("BYOL", "#a6761d")}
    citation = "Grill et al. 2020, Bootstrap your own latent: a new approach to self-supervised learning"

    def __init__(self, config: Config) -> None:
        settings = cast(ByolSettings, config.methods[self.name])
        self.crop_area = settings.crop_area
        shared = settings.model_dump(exclude=set(CropSettings.model_fields))
        super().__init__(config, PglSettings(alignment="pooled", stride=32, **shared))

    def view_plan(self, stage: int) -> ViewPlan:
        """Crops by area."""
        return replace(super().view_plan(stage), crop_area=self.crop_area)
