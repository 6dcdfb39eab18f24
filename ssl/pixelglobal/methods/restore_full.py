"""Restoration first, then the paper's losses: `restore` in the first half of a run, `full` in the second.

The student of the second half starts with the weights of the first, and so does its teacher.

Shape letters: B images, S side of a square image, M matched pixel pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.methods.base import Variant
from pixelglobal.methods.collapse import HeadMeasures
from pixelglobal.methods.pixel_global import PixelGlobal, PixelGlobalSettings
from pixelglobal.methods.restore import RestorationHeads, RestoreSettings, restoration_losses
from pixelglobal.methods.teacher import follow
from pixelglobal.networks.branch import Branch
from pixelglobal.views.pairs import ViewPair, ViewPlan


class RestoringBranch(Branch):
    """A branch of the paper's method that restores as well."""

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.heads = RestorationHeads(self.backbone.pixel_channels)

    def forward(self, view: Tensor, *places: Any) -> Any:
        """Intensities and positions of a view with hidden blocks; given the places of matched pixels, see `Branch`."""
        return super().forward(view, *places) if places else self.heads(self.backbone(view))


class RestoreFullSettings(PixelGlobalSettings, RestoreSettings):
    """The settings of both methods."""

    presets: ClassVar[dict[str, Mapping[str, Any]]] = {
        preset: {**PixelGlobalSettings.presets.get(preset, {}), **RestoreSettings.presets.get(preset, {})}
        for preset in (*PixelGlobalSettings.presets, *RestoreSettings.presets)
    }

    def branch(self, network: Network, kind: type[Branch] = RestoringBranch) -> Branch:
        """A network that restores as well, with new weights."""
        return super().branch(network, kind)


class RestoreFull(PixelGlobal):
    """Two stages: 0 restores, 1 trains with Eqs. (3) to (6)."""

    name = "restore_full"
    Settings: ClassVar[type[Section]] = RestoreFullSettings
    variants = {"restore_full": Variant("Restoration, then ours", "#b15928")}
    citation = f"{PixelGlobal.citation}; after masked image modelling (Xie et al. 2022, SimMIM)"

    stages = 2
    settings: RestoreFullSettings

    def __init__(self, config: Config) -> None:
        super().__init__(config, cast(RestoreFullSettings, config.methods[self.name]))

    def view_plan(self, stage: int) -> ViewPlan:
        """View 1 with the anatomy under it, then what the paper's losses need."""
        return super().view_plan(stage) if stage else ViewPlan(self.views, anatomy=True)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """Those of the stage."""
        if pair.stage:
            return super().losses(pair, generator)
        return restoration_losses(self.run_student, pair, self.settings, generator)

    def before_backward(self, terms: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Norms of gradients in the second stage."""
        return super().before_backward(terms, step) if "loss_global" in terms else {}

    def measures(self, pair: ViewPair, generator: torch.Generator) -> dict[str, HeadMeasures]:
        """The heads have nothing to say before the second stage, which trains them."""
        return super().measures(pair, generator) if pair.stage else {}

    def after_step(self, step: int, total_steps: int) -> None:
        """The teacher is a copy of the student in the first stage and follows it in the second."""
        if step * self.stages < total_steps:
            follow(self.teacher.parameters(), self.student.parameters(), 0.0)
        else:
            super().after_step(step, total_steps)

    def exported(self) -> dict[str, nn.Module]:
        """What the paper's method exports, with the heads that restore."""
        return {**super().exported(), "student.heads": self.student.get_submodule("heads")}
