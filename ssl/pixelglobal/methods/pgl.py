"""PGL: an online encoder predicts, cell by cell of the overlap of two views, what its slow copy says of the other view.

Source: Xie et al. 2020, "PGL: Prior-guided local self-supervised learning for 3D medical image segmentation", in two
dimensions; its code was never published. With one vector an image instead of a map it is BYOL.

Shape letters: B images, S side of a square image, C channels, h map rows, w map columns, D length of a vector.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.methods.base import Method, Variant
from pixelglobal.methods.teacher import TeacherSettings, move_teacher
from pixelglobal.networks.heads import MlpHead
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.alignment import (
    align_by_roi,
    align_by_sampling,
    aligned_loss,
    common_rectangle,
    grid_of,
    sees,
    spans_a_cell,
)
from pixelglobal.views.pairs import ViewPair, ViewPlan


class PglSettings(TeacherSettings):
    """PGL (Xie et al. 2020); its code was never published, and the sizes are those of a re-implementation."""

    presets = {
        "small": {"hidden": 512, "outputs": 128, "ema_base": 0.99},
        "smoke": {"hidden": 64, "outputs": 32, "stride": 8, "ema_base": 0.99},
    }

    # roi_align: views are not rotated, as in PGL | grid_sample: they are | pooled: one vector an image, as in BYOL
    alignment: Literal["roi_align", "grid_sample", "pooled"] = "roi_align"
    stride: Literal[4, 8, 16, 32] = 32  # of the encoder's map that is aligned; deeper layers are not trained
    hidden: int = Field(4096, ge=1)
    outputs: int = Field(256, ge=1)


class Projected(nn.Module):
    """An encoder and a dense projector: what the teacher is, and the student without its predictor."""

    def __init__(self, network: Network, settings: PglSettings) -> None:
        super().__init__()
        self.encoder = ResUNet(network).encoder
        self.level, channels = level_of_stride(self.encoder, settings.stride, "pgl.stride", network.encoder)
        self.pooled = settings.alignment == "pooled"
        self.projector = MlpHead(channels, settings.hidden, settings.outputs, batch_norm=True)

    def forward(self, views: Tensor) -> Tensor:
        """A map [B, D, h, h] of views [B, 1, S, S]; of one cell if pooled."""
        features = self.encoder(views)[self.level]
        return dense(self.projector, features.mean((2, 3), keepdim=True) if self.pooled else features)


class Student(nn.Module):
    """The online network."""

    def __init__(self, network: Network, settings: PglSettings) -> None:
        super().__init__()
        self.projected = Projected(network, settings)
        self.predictor = MlpHead(settings.outputs, settings.hidden, settings.outputs, batch_norm=True)

    def forward(self, views: Tensor) -> Tensor:
        """Predictions [B, D, h, h]."""
        return dense(self.predictor, self.projected(views))


def level_of_stride(encoder: Any, stride: int, setting: str, name: str) -> tuple[int, int]:
    """The level of an encoder's map of a stride, and its channels. Raises ValueError if there is none."""
    strides: list[int] = encoder.feature_info.reduction()
    if stride not in strides:
        raise ValueError(f"{setting}={stride}: {name} has maps of strides {strides}")
    level = strides.index(stride)
    return level, encoder.feature_info.channels()[level]


def dense(head: nn.Module, maps: Tensor) -> Tensor:
    """A head on every cell of maps [B, C, h, w], as 1 x 1 convolutions would be."""
    n, _, height, width = maps.shape
    cells: Tensor = head(maps.movedim(1, -1).flatten(0, 2))
    return cells.view(n, height, width, -1).movedim(-1, 1)


class Pgl(Method):
    """PGL; the loss is the sum of both directions, so it lies in [0, 8] as BYOL's does."""

    name = "pgl"
    Settings: ClassVar[type[Section]] = PglSettings
    variants = {"pgl": Variant("PGL", "#cc79a7")}
    citation = "Xie et al. 2020, PGL: Prior-guided local self-supervised learning for 3D medical image segmentation"

    student: Student
    teacher: Projected

    def __init__(self, config: Config, settings: PglSettings | None = None) -> None:
        super().__init__(config)
        self.settings = settings or cast(PglSettings, config.methods[self.name])
        self.student = Student(config.network, self.settings)
        self.teacher = copy.deepcopy(self.student.projected).requires_grad_(False)

    def view_plan(self, stage: int) -> ViewPlan:
        """ROI-align cannot turn a map, so its views are not rotated."""
        views = self.views
        if self.settings.alignment == "roi_align":
            views = views.model_copy(update={"rotation_probability": 0.0})
        return ViewPlan(views)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of both directions over what both views see, and the share of images that have such a part."""
        views = torch.cat([pair.view_1, pair.view_2])
        with torch.no_grad():
            target_1, target_2 = self.teacher(views).float().chunk(2)
        prediction_1, prediction_2 = self.run_student(views).float().chunk(2)
        if self.settings.alignment == "pooled":
            counts = torch.ones_like(target_1[:, 0], dtype=torch.bool)
        else:
            rectangle = common_rectangle(pair.maps_1, pair.maps_2, pair.side, *pair.source_size)
            counts = self._common_cells(pair, rectangle, target_1.shape[-1])
            prediction_1, target_1 = (self._aligned(m, pair.maps_1, rectangle, pair) for m in (prediction_1, target_1))
            prediction_2, target_2 = (self._aligned(m, pair.maps_2, rectangle, pair) for m in (prediction_2, target_2))
        there = aligned_loss(prediction_1, target_2, counts)
        back = aligned_loss(prediction_2, target_1, counts)
        return {"loss": there + back, "images_with_overlap": counts.flatten(1).any(1).float().mean()}

    def _common_cells(self, pair: ViewPair, rectangle: Tensor, cells: int) -> Tensor:
        """The cells [B, h, h] of the rectangle that both views see; none where it is thinner than a feature cell."""
        points = grid_of(rectangle, cells)
        seen = sees(pair.maps_1, points, pair.side) & sees(pair.maps_2, points, pair.side)
        wide = [spans_a_cell(maps, rectangle, pair.side / cells) for maps in (pair.maps_1, pair.maps_2)]
        return (seen & (wide[0] & wide[1])[:, None]).view(-1, cells, cells)

    def _aligned(self, maps: Tensor, places: Tensor, rectangle: Tensor, pair: ViewPair) -> Tensor:
        align = align_by_roi if self.settings.alignment == "roi_align" else align_by_sampling
        return align(maps, places, rectangle, pair.side, maps.shape[-1])

    def advice(self, head: str) -> list[str]:
        """What to try against a collapse."""
        return [*super().advice(head), f"raise {self.name}.ema_base"]

    def after_step(self, step: int, total_steps: int) -> None:
        """The teacher follows the student's encoder and projector."""
        move_teacher(self.teacher, self.student.projected, self.settings, step, total_steps)

    def exported(self) -> dict[str, nn.Module]:
        """Both encoders and the heads: there is no decoder in this method, so none is transferred."""
        return {
            "student.encoder": self.student.projected.encoder,
            "student.projector": self.student.projected.projector,
            "student.predictor": self.student.predictor,
            "teacher.encoder": self.teacher.encoder,
            "teacher.projector": self.teacher.projector,
        }
