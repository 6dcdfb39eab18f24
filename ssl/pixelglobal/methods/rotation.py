"""Rotation: which way up is a slice? The encoder tells by how many quarter turns each copy of a view was turned.

Source: Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations".

Shape letters: B images, S side of a square image.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.methods.base import Method, Variant
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.pairs import ViewPair, ViewPlan


class RotationSettings(Section):
    """Rotation prediction (Gidaris et al. 2018) has no numbers: four turns, one linear layer."""


class Student(nn.Module):
    """An encoder and a linear classifier of its vector."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        backbone = ResUNet(network)
        self.encoder = backbone.encoder
        self.classifier = nn.Linear(backbone.vector_channels, 4)

    def forward(self, views: Tensor) -> Tensor:
        """Scores [B, 4] of the quarter turns of views [B, 1, S, S]."""
        scores: Tensor = self.classifier(self.encoder(views)[-1].mean((2, 3)))
        return scores


class Rotation(Method):
    """Rotation prediction on view 1, all four turns of every slice in each batch, as its authors have it."""

    name = "rotation"
    Settings: ClassVar[type[Section]] = RotationSettings
    variants = {"rotation": Variant("Rotation", "#17a2a2")}
    citation = "Gidaris et al. 2018, Unsupervised representation learning by predicting image rotations"

    student: Student

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.student = Student(config.network)

    def view_plan(self, stage: int) -> ViewPlan:
        """Views that are upright: neither rotated nor turned over."""
        upright = {"rotation_probability": 0.0, "flip_vertical_probability": 0.0}
        return ViewPlan(self.views.model_copy(update=upright))

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of the four turns, and the share that is told."""
        turned = torch.cat([torch.rot90(pair.view_1, turns, (2, 3)) for turns in range(4)])
        turns = torch.arange(4, device=turned.device).repeat_interleave(len(pair.view_1))
        scores = self.run_student(turned).float()
        return {"loss": F.cross_entropy(scores, turns), "accuracy": (scores.argmax(1) == turns).float().mean()}

    def exported(self) -> dict[str, nn.Module]:
        """The encoder: there is no decoder in this method."""
        return {"student.encoder": self.student.encoder, "student.classifier": self.student.classifier}
