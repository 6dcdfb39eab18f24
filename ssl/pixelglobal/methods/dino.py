"""DINO with two views: the global loss of our method (GO) in both directions.

Source: Caron et al. 2021, "Emerging properties in self-supervised vision transformers".
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from pixelglobal.config.schema import Config
from pixelglobal.config.section import Section
from pixelglobal.losses.consistency import global_loss, targets
from pixelglobal.methods.base import Variant
from pixelglobal.methods.crops import CropSettings
from pixelglobal.methods.pixel_global import PixelGlobal, PixelGlobalSettings
from pixelglobal.methods.teacher import TeacherSettings
from pixelglobal.views.pairs import ViewPair, ViewPlan


class DinoSettings(CropSettings, TeacherSettings):
    """DINO (Caron et al. 2021), with the head of GO."""

    presets = {
        "small": {"global_outputs": 256, "ema_base": 0.99},
        "smoke": {"global_outputs": 64, "head_hidden": 64, "head_bottleneck": 32, "ema_base": 0.99},
    }

    global_outputs: int = Field(1024, ge=2)
    head_hidden: int = Field(256, ge=8)
    head_bottleneck: int = Field(128, ge=4)
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature: float = Field(0.04, gt=0)
    collapse_guard: Literal["center", "bn_logits", "both", "none"] = "center"
    center_momentum: float = Field(0.9, ge=0, lt=1)
    crop_area_min: float = Field(0.14, gt=0, le=1)  # of its global crops with ResNet-50


class Dino(PixelGlobal):
    """GO, but each view is the teacher's once; batch norms see both views together and the centre moves after both."""

    name = "dino"
    Settings: ClassVar[type[Section]] = DinoSettings
    variants = {"dino": Variant("DINO", "#66a61e")}
    citation = "Caron et al. 2021, Emerging properties in self-supervised vision transformers"

    def __init__(self, config: Config) -> None:
        settings = cast(DinoSettings, config.methods[self.name])
        go = PixelGlobal.variants["go"].settings
        self.crop_area = settings.crop_area
        shared = settings.model_dump(exclude=set(CropSettings.model_fields))
        super().__init__(config, PixelGlobalSettings(**go, **shared))

    def view_plan(self, stage: int) -> ViewPlan:
        """Crops by area; no pixels, no partners."""
        return ViewPlan(self.views, crop_area=self.crop_area)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """The mean of both directions of Eq. (3)."""
        settings, views = self.settings, torch.cat([pair.view_1, pair.view_2])
        nowhere = torch.zeros(0, dtype=torch.long, device=views.device)
        with torch.no_grad():
            logits_t = self.teacher(views, nowhere, nowhere)[0]
        logits_s = self.run_student(views, nowhere, nowhere)[0]
        target = targets(logits_t, self.center_global, settings.teacher_temperature)
        loss = global_loss(target, torch.cat(logits_s.chunk(2)[::-1]), settings.student_temperature)
        terms = {"loss_global": loss, "loss": loss}
        self._describe(terms, "global", target)
        self._move_center(self.center_global, logits_t)
        return terms
