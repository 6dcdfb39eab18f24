"""What a student and a teacher each have one of: an encoder-decoder with a head on the encoder's vector and one on the
decoder's pixels; and how unsure the teacher is of its pixels.

Shape letters: B images, I channels of an image, H rows, W columns, M matched pixel pairs, K outputs of a head, C
channels.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pixelglobal.config.schema import Network
from pixelglobal.losses.consistency import targets
from pixelglobal.networks.batch_norm import RestoredBatchNormBuffers, frozen_batch_norm_buffers, is_synchronized
from pixelglobal.networks.heads import ProjectionHead
from pixelglobal.networks.mc_dropout import can_run_in_blocks, predictive_uncertainty
from pixelglobal.networks.uncertainty import channel_mask, monte_carlo_uncertainty
from pixelglobal.networks.unet import ResUNet, pixels_of


@dataclass(frozen=True)
class HeadSize:
    """The widths of a projection head."""

    hidden: int
    bottleneck: int
    outputs: int


@dataclass(frozen=True)
class ChannelDropout:
    """Where whole channels are dropped, and how often."""

    sites: tuple[str, ...]  # "bottleneck", the encoder's last map; "decoder_out", the decoder's pixel features
    probability: float


@dataclass(frozen=True)
class DropoutPasses:
    """How the uncertainty of pixels is measured: so many passes under dropout, and what is taken of them."""

    dropout: ChannelDropout
    passes: int
    measure: str  # see `networks.uncertainty.monte_carlo_uncertainty`
    temperature: float


@dataclass(frozen=True)
class MatchedPixels:
    """The pixels of a batch that have twins, and what a pass without dropout made of them."""

    features: list[Float[Tensor, "B _ _ _"]]  # the encoder's maps, fine to coarse
    y_MC: Float[Tensor, "M C"]  # the decoder's features
    image_M: Int64[Tensor, " M"]  # which image, ascending
    pixel_M: Int64[Tensor, " M"]  # the flat index of the pixel there
    matched_B: Sequence[int]  # how many each image has


class Branch(nn.Module):
    """Backbone and both heads; pixel_size=None leaves the pixel head out."""

    def __init__(
        self,
        network: Network,
        global_size: HeadSize,
        pixel_size: HeadSize | None,
        *,
        bn_logits: bool,
        checkpoint_pixel_head: bool,
    ) -> None:
        super().__init__()
        self.backbone = ResUNet(network)
        self.global_head = _head(self.backbone.vector_channels, global_size, hidden_layers=2, bn_logits=bn_logits)
        self.pixel_head: ProjectionHead | None = None
        self.checkpoint_pixel_head = checkpoint_pixel_head
        if pixel_size is not None:
            self.pixel_head = _head(self.backbone.pixel_channels, pixel_size, hidden_layers=1, bn_logits=bn_logits)

    def forward(
        self,
        view: Float[Tensor, "B I H W"],
        image_M: Int64[Tensor, " M"],
        pixel_M: Int64[Tensor, " M"],
        masks: dict[str, Float[Tensor, "B _"]] | None = None,
    ) -> tuple[
        Float[Tensor, "B _"], Float[Tensor, "M K"] | None, list[Float[Tensor, "B _ _ _"]], Float[Tensor, "M C"] | None
    ]:
        """Global logits, pixel logits, the encoder's maps, and pixel features before dropout.

        masks: see `dropout_masks`; None means no dropout.
        """
        features = self.backbone.encode(view)
        z = self.global_head(features[-1].mean((2, 3)))
        # Without pixels the head is left out, unless other workers wait for this one's share of batch statistics.
        if self.pixel_head is None or (not len(image_M) and not is_synchronized(self.pixel_head)):
            return z, None, features, None
        y_MC = self.decode_pixels(features, image_M, pixel_M, masks)
        return z, self.project_pixels(y_MC, image_M, masks), features, y_MC

    def decode_pixels(
        self,
        features: list[Float[Tensor, "B _ _ _"]],
        image_M: Int64[Tensor, " M"],
        pixel_M: Int64[Tensor, " M"],
        masks: dict[str, Float[Tensor, "B _"]] | None,
    ) -> Float[Tensor, "M C"]:
        """The decoder's features of the named pixels, from the encoder's maps."""
        if masks and "bottleneck" in masks:
            features = [*features[:-1], features[-1] * masks["bottleneck"][:, :, None, None].to(features[-1].dtype)]
        return pixels_of(self.backbone.decoder(features), image_M, pixel_M)

    def project_pixels(
        self, y_MC: Float[Tensor, "M C"], image_M: Int64[Tensor, " M"], masks: dict[str, Float[Tensor, "B _"]] | None
    ) -> Float[Tensor, "M K"]:
        """The pixel head's logits of pixel features."""
        assert self.pixel_head is not None
        if masks and "decoder_out" in masks:
            y_MC = y_MC * masks["decoder_out"].to(y_MC.dtype)[image_M]
        head = self.pixel_head
        logits_MK: Tensor
        if self.checkpoint_pixel_head and y_MC.requires_grad:
            # The second pass, inside backward, must not refresh the running averages again.
            logits_MK = checkpoint(
                head,
                y_MC,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), RestoredBatchNormBuffers(head)),
            )
        else:
            logits_MK = head(y_MC)
        return logits_MK

    def dropout_masks(
        self, n: int, dropout: ChannelDropout, like: Tensor, generator: torch.Generator
    ) -> dict[str, Float[Tensor, "{n} _"]]:
        """One draw of the masks [B, C] of every dropout site for n images."""
        channels = {"bottleneck": self.backbone.vector_channels, "decoder_out": self.backbone.pixel_channels}
        return {site: channel_mask(n, channels[site], dropout.probability, like, generator) for site in dropout.sites}


def _head(channels: int, size: HeadSize, *, hidden_layers: int, bn_logits: bool) -> ProjectionHead:
    return ProjectionHead(
        channels,
        hidden=size.hidden,
        bottleneck=size.bottleneck,
        outputs=size.outputs,
        hidden_layers=hidden_layers,
        bn_logits=bn_logits,
    )


@torch.no_grad()
def teacher_uncertainty(
    teacher: Branch,
    center: Float[Tensor, " K"],
    pixels: MatchedPixels,
    how: DropoutPasses,
    generator: torch.Generator,
) -> Float[Tensor, " M"]:
    """U of the teacher's pixels, in [0, 1]; what lies before the first dropout site is not run again."""
    n, like, image_M = len(pixels.features[-1]), pixels.features[-1], pixels.image_M
    head, sites = teacher.pixel_head, how.dropout.sites
    in_blocks = sites == ("decoder_out",) and how.measure == "predictive"
    if in_blocks and head is not None and can_run_in_blocks(head):
        draws = [teacher.dropout_masks(n, how.dropout, like, generator) for _ in range(how.passes)]
        masks_PBC = torch.stack([masks["decoder_out"] for masks in draws])
        return predictive_uncertainty(head, pixels.y_MC, pixels.matched_B, masks_PBC, center, how.temperature)

    def one_pass() -> Float[Tensor, "M K"]:
        masks = teacher.dropout_masks(n, how.dropout, like, generator)
        y_MC = pixels.y_MC
        if "bottleneck" in masks:
            y_MC = teacher.decode_pixels(pixels.features, image_M, pixels.pixel_M, masks)
        return targets(teacher.project_pixels(y_MC, image_M, masks), center, how.temperature)

    with frozen_batch_norm_buffers(teacher):
        return monte_carlo_uncertainty(one_pass, how.passes, how.measure)
