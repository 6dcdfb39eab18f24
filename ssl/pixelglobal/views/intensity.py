"""From HU, or intensities of pictures, to network inputs: the clip range and the z-score.

Shape letters: B images, C channels, I channels of an image, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Num
from torch import Tensor


@dataclass(frozen=True)
class HuScale:
    """How stored HU become network inputs: clip range first, then (hu - mean) / std."""

    hu_min: float
    hu_max: float
    mean_hu: float
    std_hu: float
    scope: str = "dataset"  # "slice": every slice its own mean and std


def with_channels(images: Num[Tensor, "B *C H W"]) -> Float[Tensor, "B I H W"]:
    """Slices [B, H, W] of a CT, or [B, C, H, W] of pictures, as real numbers with an axis of channels."""
    real = images.float()
    return real.unsqueeze(1) if real.ndim == 3 else real


def normalize(hu: Float[Tensor, "B I H W"], scale: HuScale) -> Float[Tensor, "B I H W"]:
    """The z-score of intensities in HU, over the data set or over each slice.

    All channels of a picture have one mean and one deviation, so that colours keep their proportions.
    """
    if scale.scope == "slice":
        std = hu.std((1, 2, 3), keepdim=True).clamp_min(1.0)  # an empty slice has no spread; 1 HU keeps it finite
        return (hu - hu.mean((1, 2, 3), keepdim=True)) / std
    return (hu - scale.mean_hu) / scale.std_hu
