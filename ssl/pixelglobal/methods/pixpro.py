"""PixPro: cells of two views that show the same place agree, after the student has averaged over cells that look alike.

Source: Xie et al. 2021, "Propagate yourself: exploring pixel-level consistency for unsupervised visual representation
learning".

Shape letters: B images, D length of a vector, h map rows, Q points, S side of a square image. Here the points are
the cells of a map.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.losses.dense import agreement, propagate
from pixelglobal.methods.base import Method, Variant
from pixelglobal.methods.crops import CropSettings
from pixelglobal.methods.pgl import dense, level_of_stride
from pixelglobal.methods.teacher import TeacherSettings, move_teacher
from pixelglobal.networks.heads import MlpHead
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.geometry import pixel_centers, to_source
from pixelglobal.views.pairs import ViewPair, ViewPlan


class PixProSettings(CropSettings, TeacherSettings):
    """PixPro (Xie et al. 2021). Numbers are its authors'; the presets are for short runs on small views."""

    presets = {
        "small": {"hidden": 512, "outputs": 128, "stride": 8},
        "smoke": {"hidden": 64, "outputs": 32, "stride": 8},
    }

    stride: Literal[4, 8, 16, 32] = 32  # of the encoder's map; every cell meets every other, so at most 28 x 28 cells
    hidden: int = Field(4096, ge=1)
    outputs: int = Field(256, ge=1)
    power: float = Field(2.0, gt=0)  # of the likeness of two cells, which is their weight in the average
    reach: float = Field(0.7, gt=0)  # cells show the same place if they are closer than so many cell diagonals
    crop_area_min: float = Field(0.2, gt=0, le=1)
    ema_base: float = Field(0.99, ge=0, le=1)


class Projected(nn.Module):
    """An encoder and a dense projector."""

    def __init__(self, network: Network, settings: PixProSettings) -> None:
        super().__init__()
        self.encoder = ResUNet(network).encoder
        self.level, channels = level_of_stride(self.encoder, settings.stride, "pixpro.stride", network.encoder)
        self.projector = MlpHead(channels, settings.hidden, settings.outputs, batch_norm=True)

    def forward(self, views: Tensor) -> Tensor:
        """Maps [B, D, h, h] of views [B, 1, S, S]."""
        return dense(self.projector, self.encoder(views)[self.level])


class Student(nn.Module):
    """The online network, which propagates."""

    def __init__(self, network: Network, settings: PixProSettings) -> None:
        super().__init__()
        self.projected, self.power = Projected(network, settings), settings.power
        self.transform = nn.Conv2d(settings.outputs, settings.outputs, 1)

    def forward(self, views: Tensor) -> Tensor:
        """Propagated cells [B, D, h * h]."""
        maps = self.projected(views)
        return propagate(maps.flatten(2), self.transform(maps).flatten(2), self.power)


class PixPro(Method):
    """PixPro; the loss is the sum of 2 - 2 cosine over both directions, so it is in [0, 8] as BYOL's is."""

    name = "pixpro"
    Settings: ClassVar[type[Section]] = PixProSettings
    variants = {"pixpro": Variant("PixPro", "#7f7f00")}
    citation = "Xie et al. 2021, Propagate yourself: exploring pixel-level consistency for unsupervised learning"

    student: Student
    teacher: Projected

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = cast(PixProSettings, config.methods[self.name])
        self.student = Student(config.network, self.settings)
        self.teacher = copy.deepcopy(self.student.projected).requires_grad_(False)

    def view_plan(self, stage: int) -> ViewPlan:
        """Crops by area."""
        return ViewPlan(self.views, crop_area=self.settings.crop_area)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """The disagreement of cells that show the same place, and the share of pairs of cells that do."""
        views = torch.cat([pair.view_1, pair.view_2])
        with torch.no_grad():
            maps = self.teacher(views)
        target_1, target_2 = maps.flatten(2).chunk(2)
        cells_1, cells_2 = self.run_student(views).chunk(2)
        positive = same_place(pair.maps_1, pair.maps_2, pair.side, maps.shape[-1], self.settings.reach)
        there, back = agreement(cells_1, target_2, positive), agreement(cells_2, target_1, positive.mT)
        return {"loss": (4 - 2 * (there + back)).mean(), "positive_pairs": positive.float().mean()}

    def advice(self, head: str) -> list[str]:
        """What to try against a collapse."""
        return [*super().advice(head), f"raise {self.name}.ema_base"]

    def after_step(self, step: int, total_steps: int) -> None:
        """The teacher follows the student's encoder and projector."""
        move_teacher(self.teacher, self.student.projected, self.settings, step, total_steps)

    def exported(self) -> dict[str, nn.Module]:
        """Both encoders and projectors: there is no decoder in this method."""
        return {
            f"{name}.{part}": getattr(network, part)
            for name, network in (("student", self.student.projected), ("teacher", self.teacher))
            for part in ("encoder", "projector")
        }


def same_place(maps_1: Tensor, maps_2: Tensor, side: int, cells: int, reach: float) -> Tensor:
    """Which cells of view 1 and view 2 show the same place, bool [B, Q, Q], by their distance in the slice.

    maps_1, maps_2: the affine maps of the views, see `views.geometry`; reach: in diagonals of the larger cell.
    """
    cell = side / cells
    points = [to_source(maps, pixel_centers(cells, maps) * cell) for maps in (maps_1, maps_2)]
    scales = [maps[:, :, 0].norm(dim=-1) for maps in (maps_1, maps_2)]  # source pixels per view pixel
    diagonal = torch.maximum(*scales) * cell * 2**0.5
    return torch.cdist(points[0], points[1]) < reach * diagonal[:, None, None]
