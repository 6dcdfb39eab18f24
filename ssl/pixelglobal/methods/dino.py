"""DINO with two views: the global loss of our method (GO) in both directions.

Source: Caron et al. 2021, "Emerging properties in self-supervised vision transformers". Heads, temperatures and centre
are `pretrain.*`, as in GO.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelglobal.config.overrides import with_settings
from pixelglobal.config.presets import VARIANTS
from pixelglobal.config.schema import Config
from pixelglobal.losses.consistency import global_loss, targets
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.views.pairs import ViewPair, ViewPlan


class Dino(PixelGlobal):
    """GO, but each view is the teacher's once; batch norms see both views together and the centre moves after both."""

    citation = "Caron et al. 2021, Emerging properties in self-supervised vision transformers"

    def __init__(self, config: Config) -> None:
        super().__init__(with_settings(config, pretrain=VARIANTS["go"]))

    def view_plan(self, stage: int) -> ViewPlan:
        """No pixels, no partners."""
        return ViewPlan(self.views)

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
