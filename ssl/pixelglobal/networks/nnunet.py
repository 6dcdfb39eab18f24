"""Our encoder-decoder as nnU-Net wants it: built from a plans file, with outputs for its deep supervision.

Shape letters: B images, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelglobal.config.schema import Network
from pixelglobal.networks.unet import Decoder, ResUNet


class SupervisedDecoder(Decoder):
    """The decoder with class scores after every block; `seg_layers`, by which nnU-Net knows what it must not load."""

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], widths: Sequence[int], classes: int, deep: bool
    ) -> None:
        super().__init__(channels, reductions, widths)
        self.deep_supervision = deep  # nnU-Net switches it off for inference
        self.seg_layers = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)

    def scores(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Any:
        """Scores [B, classes, H, W], or a list of them from fine to coarse with deep supervision."""
        x, outputs = features[-1], []
        for block, skip, layer in zip(self.blocks, self.skip_index, self.seg_layers, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x if skip < 0 else torch.cat([x, features[skip]], 1))
            outputs.append(layer(x))
        return outputs[::-1] if self.deep_supervision else outputs[-1]


class NnUnetResUNet(nn.Module):
    """The network that a plans file names as `pixelglobal.networks.nnunet.NnUnetResUNet`.

    strides: of the stages, which nnU-Net reads to scale its targets; the network has its own.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        encoder: str,
        decoder_widths: Sequence[int],
        strides: Sequence[Sequence[int]],  # noqa: ARG002
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if input_channels != 1:
            raise ValueError(f"the plans file asks for {input_channels} channels; expected 1, of a CT")
        backbone = ResUNet(Network(encoder=encoder, decoder_widths=tuple(decoder_widths)))
        info: Any = backbone.encoder.feature_info
        self.encoder = backbone.encoder
        self.decoder = SupervisedDecoder(
            info.channels(), info.reduction(), decoder_widths, num_classes, deep_supervision
        )

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Any:
        """Scores of slices [B, 1, H, W], see `SupervisedDecoder.scores`."""
        return self.decoder.scores(self.encoder(x))
