"""Restoration: a slice is restored from the blocks of it that were left, so that encoder and decoder learn anatomy.

Masked image modelling (He et al. 2022, MAE; Xie et al. 2022, SimMIM) with a convolutional encoder-decoder, which sees
the hidden blocks as gaps (Pathak et al. 2016, context encoders). The visible intensities are changed as well, as in
Zhou et al. 2021, Models Genesis. There is no teacher, no second view and no negative, and nothing can collapse.

Shape letters: B images, S side of a square image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.devices import send
from pixelglobal.losses.restoration import masked_l1
from pixelglobal.methods.base import Method, Variant
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.pairs import ViewPair, ViewPlan


class RestoreSettings(Section):
    """Masked image modelling of CT. Where no source is named the value is ours."""

    presets = {"small": {"block_pixels": 8}, "smoke": {"block_pixels": 8}}  # 8 pixels of 4 mm are 32 mm, too

    block_pixels: Literal[4, 8, 16, 32] = 32  # SimMIM: "a moderately large masked patch size (32)"
    hidden_fraction: float = Field(0.6, gt=0, lt=1)  # of the blocks of a view; SimMIM and SparK: 0.6
    noise: float = Field(0.1, ge=0)  # standard deviation of noise on what is visible, in units of the input's
    hu_unit: float = Field(250.0, gt=0)  # the target is HU / hu_unit: air -4, water 0, bone above 1
    position_weight: float = Field(0.5, ge=0)  # of the second target: where in the body a pixel is; 0 switches it off


class RestorationHeads(nn.Module):
    """One 1 x 1 convolution of pixel features for each target."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.intensity = nn.Conv2d(channels, 1, 1)
        self.position = nn.Conv2d(channels, 3, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Intensities [B, 1, S, S] in units of `hu_unit` and positions [B, 3, S, S] of features [B, C, S, S]."""
        return self.intensity(pixels), self.position(pixels)


class Student(nn.Module):
    """Encoder-decoder and the heads."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = ResUNet(network)
        self.heads = RestorationHeads(self.backbone.pixel_channels)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Intensities and positions of views [B, 1, S, S]."""
        restored: tuple[Tensor, Tensor] = self.heads(self.backbone(view))
        return restored


class Restore(Method):
    """Restoration of hidden blocks of view 1, with the position in the body as a second target."""

    name = "restore"
    Settings: ClassVar[type[Section]] = RestoreSettings
    variants = {"restore": Variant("Restoration", "#e7298a")}
    citation = (
        "Xie et al. 2022, SimMIM: a simple framework for masked image modeling; "
        "Zhou et al. 2021, Models Genesis; adapted to an encoder-decoder for CT"
    )

    student: Student

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = cast(RestoreSettings, config.methods[self.name])
        self.student = Student(config.network)

    def view_plan(self, stage: int) -> ViewPlan:
        """View 1 with the anatomy under it."""
        return ViewPlan(self.views, anatomy=True)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """loss_restoration on hidden pixels of the body, loss_position on all of its pixels."""
        return restoration_losses(self.run_student, pair, self.settings, generator)

    def exported(self) -> dict[str, nn.Module]:
        """Encoder, decoder and heads."""
        return {
            "student.encoder": self.student.backbone.encoder,
            "student.decoder": self.student.backbone.decoder,
            "student.heads": self.student.heads,
        }


def restoration_losses(
    run_student: Callable[[Tensor], tuple[Tensor, Tensor]],
    pair: ViewPair,
    settings: RestoreSettings,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Named scalars of view 1 with hidden blocks; run_student: gives the intensities and positions of a view."""
    assert pair.anatomy_1 is not None
    hidden = hidden_blocks(len(pair.view_1), pair.side, settings.block_pixels, settings.hidden_fraction, generator)
    noise = settings.noise * torch.randn(pair.view_1.shape, generator=generator)
    hidden, noise = send(hidden, pair.view_1.device), send(noise, pair.view_1.device)
    intensity, position = run_student((pair.view_1 + noise).masked_fill(hidden, 0.0))
    body = pair.anatomy_1.body
    error = masked_l1(intensity, pair.anatomy_1.hu / settings.hu_unit, hidden & body)
    terms = {"loss_restoration": error}
    if settings.position_weight > 0:
        terms["loss_position"] = settings.position_weight * masked_l1(position, positions_of(pair), body)
    terms["loss"] = torch.stack(list(terms.values())).sum()
    return terms | {"error_hu": error.detach() * settings.hu_unit, "body": body.float().mean()}


def hidden_blocks(n_images: int, side: int, block_pixels: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Which pixels are hidden, bool [B, 1, S, S]: the same number of square blocks of every image, drawn at random.

    >>> hidden_blocks(2, 32, 8, 0.5, torch.Generator().manual_seed(0)).float().mean((1, 2, 3)).tolist()
    [0.5, 0.5]
    """
    blocks = side // block_pixels
    count = max(1, round(fraction * blocks**2))
    chosen = torch.rand(n_images, blocks**2, generator=generator).topk(count, dim=1).indices
    hidden = torch.zeros(n_images, blocks**2, dtype=torch.bool).scatter_(1, chosen, True)
    grid = hidden.view(n_images, 1, blocks, blocks)
    return grid.repeat_interleave(block_pixels, 2).repeat_interleave(block_pixels, 3)


def positions_of(pair: ViewPair) -> Tensor:
    """Where in the body each pixel of view 1 is, [B, 3, S, S]: (x, y) in the frame of the slice's body, then the depth
    of the slice in its scan; each with a spread of about 1."""
    assert pair.anatomy_1 is not None
    assert pair.depth_B is not None
    depth = (pair.depth_B.float() - 0.5) * 12**0.5  # the deviation of a uniform draw from [0, 1] is 1 / sqrt(12)
    return torch.cat([pair.anatomy_1.position, depth.view(-1, 1, 1, 1).expand_as(pair.view_1)], 1)
