"""Context restoration: blocks of a slice change places, and the encoder-decoder puts them back.

Source: Chen et al. 2019, "Self-supervised learning for medical image analysis using image context restoration".

Shape letters: B images, C channels, S side of a square image.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.devices import send
from pixelglobal.methods.base import Method, Variant
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.pairs import ViewPair


class ContextRestorationSettings(Section):
    """Context restoration (Chen et al. 2019); the sizes are ours."""

    presets = {"small": {"block_pixels": 8}, "smoke": {"block_pixels": 8, "swaps": 4}}

    block_pixels: Literal[4, 8, 16, 32] = 32
    swaps: int = Field(10, ge=1)  # pairs of blocks that change places; at most half of the blocks of a view


class Student(nn.Module):
    """Encoder-decoder with a 1 x 1 convolution to intensities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = ResUNet(network)
        self.head = nn.Conv2d(self.backbone.pixel_channels, network.in_channels, 1)

    def forward(self, views: Tensor) -> Tensor:
        """Intensities [B, channels, S, S]."""
        restored: Tensor = self.head(self.backbone(views))
        return restored


class ContextRestoration(Method):
    """Context restoration of view 1."""

    name = "context_restoration"
    Settings: ClassVar[type[Section]] = ContextRestorationSettings
    variants = {"context_restoration": Variant("Context restoration", "#fdb462")}
    citation = "Chen et al. 2019, Self-supervised learning for medical image analysis using image context restoration"

    student: Student

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.settings = cast(ContextRestorationSettings, config.methods[self.name])
        self.student = Student(config.network)
        blocks = (config.views.crop_size // self.settings.block_pixels) ** 2
        if 2 * self.settings.swaps > blocks:
            raise ValueError(
                f"context_restoration.swaps={self.settings.swaps}: a view has {blocks} blocks of "
                f"{self.settings.block_pixels} pixels, so at most {blocks // 2} pairs can change places"
            )

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """The mean squared error of the whole view."""
        swapped = swap_blocks(pair.view_1, self.settings.block_pixels, self.settings.swaps, generator)
        return {"loss": F.mse_loss(self.run_student(swapped).float(), pair.view_1)}

    def exported(self) -> dict[str, nn.Module]:
        """Encoder, decoder and head."""
        return {
            "student.encoder": self.student.backbone.encoder,
            "student.decoder": self.student.backbone.decoder,
            "student.head": self.student.head,
        }


def swap_blocks(views: Tensor, block_pixels: int, swaps: int, generator: torch.Generator) -> Tensor:
    """Views [B, C, S, S] in each of which so many pairs of square blocks, drawn at random, have changed places."""
    (n, channels), blocks = views.shape[:2], views.shape[-1] // block_pixels
    chosen = torch.rand(n, blocks**2, generator=generator).argsort(1)[:, : 2 * swaps]
    order = torch.arange(blocks**2).repeat(n, 1).scatter_(1, chosen, chosen.roll(swaps, 1))
    grid = views.view(n, channels, blocks, block_pixels, blocks, block_pixels).permute(0, 2, 4, 1, 3, 5)
    grid = grid.reshape(n, blocks**2, -1)
    order = send(order, views.device)[:, :, None].expand_as(grid)
    moved = grid.gather(1, order).view(n, blocks, blocks, channels, block_pixels, block_pixels)
    return moved.permute(0, 3, 1, 4, 2, 5).reshape(views.shape)
