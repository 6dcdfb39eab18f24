"""The networks: a residual U-Net over any timm encoder, and the heads that project its vectors and pixels.

Shape letters: B images, I channels of an image, H rows, W columns, C channels, h map rows, w map columns, M matched
pixel pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pixelglobal.config.schema import Network


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions with batch normalisation and ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            layers += [
                nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class Decoder(nn.Module):
    """Doubles the resolution step by step to full size, joining the encoder's map of each resolution where it has one.

    channels: the encoder's feature channels; reductions: their strides, both from fine to coarse.
    widths: output channels after each doubling, one for each halving of the encoder.
    """

    def __init__(self, channels: Sequence[int], reductions: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        doublings = reductions[-1].bit_length() - 1
        if len(widths) != doublings:
            raise ValueError(
                f"network.decoder_widths={list(widths)} has {len(widths)} entries; this encoder halves the image "
                f"{doublings} times, so give {doublings} widths"
            )
        self.skip_index = [  # which encoder map joins after each doubling, -1 for none
            reductions.index(stride) if stride in reductions else -1
            for stride in (reductions[-1] >> (i + 1) for i in range(doublings))
        ]
        blocks, now = [], channels[-1]
        for width, skip in zip(widths, self.skip_index, strict=True):
            blocks.append(ConvBlock(now + (channels[skip] if skip >= 0 else 0), width))
            now = width
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]], blocks: int | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Pixel features at full size of the encoder's maps, or the smaller map after some blocks."""
        x = features[-1]
        for block, skip in list(zip(self.blocks, self.skip_index, strict=True))[:blocks]:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x if skip < 0 else torch.cat([x, features[skip]], 1))
        return x


class ResUNet(nn.Module):
    """Encoder-decoder of the paper ("ResUnet50"): any timm encoder with a feature pyramid, and a U-Net decoder."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        try:
            self.encoder = timm.create_model(
                config.encoder, pretrained=False, in_chans=config.in_channels, features_only=True
            )
        except RuntimeError as error:
            similar = timm.list_models(f"*{config.encoder[:6]}*")[:8]
            raise ValueError(
                f"network.encoder={config.encoder!r} is not a timm model with a feature pyramid ({error}); "
                f"similar names: {', '.join(similar) or 'none'}"
            ) from None
        pyramid: Any = self.encoder.feature_info
        channels, reductions = pyramid.channels(), pyramid.reduction()
        self.decoder = Decoder(channels, reductions, config.decoder_widths)
        self.vector_channels = channels[-1]
        self.pixel_channels = config.decoder_widths[-1]

    def encode(self, x: Float[Tensor, "B I H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """The encoder's maps, fine to coarse; the last is the z of the paper."""
        maps: list[Tensor] = self.encoder(x)
        return maps

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B C H W"]:
        """Pixel features y of slices, whose sides must be multiples of the encoder's stride."""
        y: Tensor = self.decoder(self.encode(x))
        return y


def pixels_of(
    features: Float[Tensor, "B C H W"], image_M: Int64[Tensor, " M"], pixel_M: Int64[Tensor, " M"]
) -> Float[Tensor, "M C"]:
    """The feature vectors of the named images at flat pixel indices."""
    return features.flatten(2)[image_M, :, pixel_M]


def compile_networks(module: nn.Module) -> None:
    """Compile every encoder and decoder inside with torch.compile, in place: names of weights stay as they are.

    The heads stay as they are written, since the number of matched pixels changes from step to step.
    """
    for network in module.modules():
        for name in ("encoder", "decoder"):
            if isinstance(part := getattr(network, name, None), nn.Module):
                part.compile()
