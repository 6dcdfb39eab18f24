"""MoCo: a view is told from the slices of many batches by its likeness to the other view, as a slow copy sees it.

Source: He et al. 2020, "Momentum contrast for unsupervised visual representation learning", with the head, temperature
and crops of its second version (Chen et al. 2020).

Shape letters: B images, D length of a vector, Q points. Here the points are the vectors in the queue.
"""

from __future__ import annotations

import copy
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.losses.contrastive import queue_contrast
from pixelglobal.methods.base import Method, Variant
from pixelglobal.methods.crops import CropSettings
from pixelglobal.methods.teacher import TeacherSettings, move_teacher
from pixelglobal.networks.heads import MlpHead
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.pairs import ViewPair, ViewPlan


class MocoSettings(CropSettings, TeacherSettings):
    """MoCo v2 (He et al. 2020, Chen et al. 2020). Numbers are its authors'; the presets are for short runs."""

    presets = {
        "small": {"hidden": 512, "queue": 1024, "ema_base": 0.99, "ema_final": 0.99},
        "smoke": {"hidden": 64, "outputs": 32, "queue": 64, "ema_base": 0.99, "ema_final": 0.99},
    }

    hidden: int = Field(2048, ge=1)
    outputs: int = Field(128, ge=1)
    queue: int = Field(65536, ge=1)  # vectors of earlier batches that are negatives
    temperature: float = Field(0.2, gt=0)
    crop_area_min: float = Field(0.2, gt=0, le=1)
    ema_base: float = Field(0.999, ge=0, le=1)  # constant
    ema_final: float = Field(0.999, ge=0, le=1)


class Queue(nn.Module):
    """The last Q vectors that were put in; random unit vectors at first."""

    vectors: Tensor
    position: Tensor

    def __init__(self, length: int, width: int, at_once: int, setting: str) -> None:
        """at_once: how many vectors come in a step, setting: the name of the length. Raises ValueError if they do not
        fit."""
        super().__init__()
        if length < at_once:
            raise ValueError(f"{setting}={length} is less than the {at_once} slices of a batch; raise it")
        self.register_buffer("vectors", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def put(self, vectors: Tensor) -> None:
        """Replace the oldest vectors by new ones [B, D]."""
        place = (self.position + torch.arange(len(vectors), device=vectors.device)) % len(self.vectors)
        self.vectors.index_copy_(0, place, vectors.to(self.vectors.dtype))
        self.position.add_(len(vectors)).remainder_(len(self.vectors))


class Projected(nn.Module):
    """An encoder and the head on its vector."""

    def __init__(self, network: Network, settings: MocoSettings) -> None:
        super().__init__()
        backbone = ResUNet(network)
        self.encoder = backbone.encoder
        self.head = MlpHead(backbone.vector_channels, settings.hidden, settings.outputs, batch_norm=False)

    def forward(self, views: Tensor) -> Tensor:
        """Unit vectors [B, D] of views [B, 1, S, S]."""
        return F.normalize(self.head(self.encoder(views)[-1].mean((2, 3))).float(), dim=1)


class Moco(Method):
    """MoCo in one direction: view 1 asks, view 2 is the key."""

    name = "moco"
    Settings: ClassVar[type[Section]] = MocoSettings
    variants = {"moco": Variant("MoCo", "#1f4e79")}
    citation = "He et al. 2020, Momentum contrast for unsupervised visual representation learning"

    parts: ClassVar[tuple[str, ...]] = ("encoder", "head")  # of student and teacher, which are exported
    student: nn.Module
    teacher: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = cast(MocoSettings, config.methods[self.name])
        self.student = self.projected(config.network)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.queue = self.new_queue()

    def projected(self, network: Network) -> nn.Module:
        """The student, of which the teacher is a copy."""
        return Projected(network, self.settings)

    def new_queue(self) -> Queue:
        """A queue of the size that the settings give."""
        settings, at_once = self.settings, self.config.pretrain.batch_size
        return Queue(settings.queue, settings.outputs, at_once, f"{self.name}.queue")

    def view_plan(self, stage: int) -> ViewPlan:
        """Crops by area."""
        return ViewPlan(self.views, crop_area=self.settings.crop_area)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """The key of view 2 against the queue, which then takes in the keys of all workers."""
        with torch.no_grad():
            key = self.teacher(pair.view_2)
        query = self.run_student(pair.view_1)
        loss = queue_contrast(query, key, self.queue.vectors.clone(), self.settings.temperature)
        self.queue.put(self.gathered_over_workers(key))
        return {"loss": loss}

    def after_step(self, step: int, total_steps: int) -> None:
        """The teacher follows the student's encoder and heads."""
        move_teacher(self.teacher, self.student, self.settings, step, total_steps)

    def exported(self) -> dict[str, nn.Module]:
        """Both encoders and their heads: there is no decoder in this method."""
        return {
            f"{name}.{part}": getattr(network, part)
            for name, network in (("student", self.student), ("teacher", self.teacher))
            for part in self.parts
        }
