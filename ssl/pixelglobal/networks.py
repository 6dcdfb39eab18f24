"""The networks: a residual U-Net over any timm encoder, and the heads that project its vectors and pixels.

Shape letters: N slices, S side, C channels, M pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelglobal.config import Network

T = TypeVar("T")


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

    def forward(self, features: Sequence[Tensor], blocks: int | None = None) -> Tensor:
        """Pixel features [N, widths[-1], S, S] of the encoder's maps, or the smaller map after some blocks."""
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
            self.encoder = timm.create_model(config.encoder, pretrained=False, in_chans=1, features_only=True)
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

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps, fine to coarse; the last is the z of the paper."""
        return self.encoder(x)

    def forward(self, x: Tensor) -> Tensor:
        """Pixel features y [N, C, S, S] of slices [N, 1, S, S]; S must be a multiple of the encoder's stride."""
        return self.decoder(self.encode(x))


class ProjectionHead(nn.Module):
    """Vectors [M, channels] to logits [M, outputs]: hidden layers with BN and GELU, an L2-normalised bottleneck, and a
    last layer of unit-norm prototypes, as in DINO. The logits are cosines in [-1, 1], so temperatures of 0.1 and 0.04
    make sense. bn_logits: batch statistics instead take each logit to mean 0 and variance 1 (no affine)."""

    def __init__(
        self, channels: int, hidden: int, bottleneck: int, outputs: int, *, hidden_layers: int, bn_logits: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(hidden_layers):
            layers += [nn.Linear(channels if i == 0 else hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()]
        layers.append(nn.Linear(hidden, bottleneck))
        self.layers = nn.Sequential(*layers)
        self.prototypes = nn.Parameter(torch.empty(outputs, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)
        self.logit_norm = nn.BatchNorm1d(outputs, affine=False) if bn_logits else nn.Identity()

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [M, outputs] in fp32: a cosine in half precision is too coarse for a temperature of 0.04."""
        bottleneck = self.layers(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = F.linear(F.normalize(bottleneck.float(), dim=-1), F.normalize(self.prototypes.float(), dim=-1))
            return self.logit_norm(cosines)


class MlpHead(nn.Sequential):
    """Vectors [M, channels] to vectors [M, outputs] through one hidden layer with ReLU and, if asked for, BN: the
    projector of SimCLR, the projector and predictor of BYOL and, as 1 x 1 convolutions on cells, of PGL."""

    def __init__(self, channels: int, hidden: int, outputs: int, *, batch_norm: bool) -> None:
        norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
        first, last = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, outputs, bias=False)
        super().__init__(first, *norm, nn.ReLU(inplace=True), last)


class Segmenter(nn.Module):
    """A backbone with a 1 x 1 convolution to class scores, for fine-tuning."""

    def __init__(self, backbone: ResUNet, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.pixel_channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores [N, classes, S, S] of slices [N, 1, S, S]."""
        return self.classifier(self.backbone(x))


def pixels_of(features: Tensor, image_M: Tensor, pixel_M: Tensor) -> Tensor:
    """The feature vectors [M, C] at flat pixel indices of maps [N, C, S, S]."""
    return features.flatten(2)[image_M, :, pixel_M]


def compile_networks(module: nn.Module) -> None:
    """Compile every encoder and decoder inside with torch.compile, in place: names of weights stay as they are.

    The heads stay as they are written, since the number of matched pixels changes from step to step.
    """
    for network in module.modules():
        for part in ("encoder", "decoder"):
            if isinstance(own := getattr(network, part, None), nn.Module):
                own.compile()


@contextmanager
def frozen_batch_norm_buffers(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms in train mode use batch statistics but leave their running averages untouched."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def restored_batch_norm_buffers(module: nn.Module) -> Iterator[None]:
    """Afterwards running averages are what they were before: for a pass that is only computed again."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def seeded(build: Callable[[], T], seed: int) -> T:
    """Call `build()` with torch's global generator seeded, and restored afterwards: initial weights follow the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
