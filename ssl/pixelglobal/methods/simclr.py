"""SimCLR: the global half of GL with plain negatives, every augmentation, and BN in the head.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations".
"""

from __future__ import annotations

from typing import ClassVar, cast

from pydantic import Field

from pixelglobal.config.schema import Config
from pixelglobal.config.section import Section
from pixelglobal.methods.base import Variant
from pixelglobal.methods.crops import CropSettings
from pixelglobal.methods.gl import Gl, GlSettings
from pixelglobal.views.pairs import ViewPlan


class SimClrSettings(CropSettings):
    """SimCLR (Chen et al. 2020)."""

    presets = {"small": {"hidden": 256}, "smoke": {"hidden": 64, "outputs": 32}}

    hidden: int = Field(2048, ge=1)
    outputs: int = Field(128, ge=1)
    temperature: float = Field(0.1, gt=0)


class SimClr(Gl):
    """GL set to SimCLR's values."""

    name = "simclr"
    Settings: ClassVar[type[Section]] = SimClrSettings
    variants = {"simclr": Variant("SimCLR", "#7570b3")}
    citation = "Chen et al. 2020, A simple framework for contrastive learning of visual representations"

    def __init__(self, config: Config) -> None:
        settings = cast(SimClrSettings, config.methods[self.name])
        plain = GlSettings(variant="random", schedule="global_only", head_batch_norm=True)
        super().__init__(config, plain.model_copy(update=settings.model_dump()))

    @classmethod
    def slices_of_a_scan(cls, _config: Config, /) -> int:
        """Slices are drawn alone."""
        return 1

    def view_plan(self, stage: int) -> ViewPlan:
        """Crops by area, and every change of `views.*`."""
        return ViewPlan(self.views, crop_area=self.settings.crop_area)
