"""What a view shows: its intensities before they were changed, which of its pixels are of the body, and where in it.

Shape letters: B images, H rows, W columns, S side of a square image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Float64, Int16
from torch import Tensor

from pixelglobal.views.geometry import pixel_centers, read_view, to_source

TISSUE_HU = -500.0  # above it is tissue, below it air and most of the lung


@dataclass(frozen=True)
class Anatomy:
    """One view of each slice, as the scanner recorded it."""

    hu: Float32[Tensor, "B 1 S S"]  # clipped to the range of the store; air outside the slice
    body: Bool[Tensor, "B 1 S S"]  # see `body_mask`
    position: Float32[Tensor, "B 2 S S"]  # (x, y), see `body_frame`


def body_mask(images_hu: Int16[Tensor, "B H W"]) -> Bool[Tensor, "B H W"]:
    """The pixels that have tissue on all four sides: the body with its lungs and bowel gas, without the air around it.

    >>> slice_hu = torch.full((1, 3, 4), -1000, dtype=torch.int16)
    >>> slice_hu[0, :, 0] = slice_hu[0, :, 2] = slice_hu[0, [0, 2], 1] = 40
    >>> body_mask(slice_hu)[0].int().tolist()
    [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    """
    tissue = (images_hu > TISSUE_HU).int()
    on_all_sides = torch.ones_like(tissue, dtype=torch.bool)
    for axis in (1, 2):
        on_all_sides &= (tissue.cumsum(axis) > 0) & (tissue.flip(axis).cumsum(axis).flip(axis) > 0)
    return on_all_sides


def body_frame(body: Bool[Tensor, "B H W"]) -> tuple[Float64[Tensor, "B 2"], Float64[Tensor, "B 2"]]:
    """Mean and standard deviation of the coordinates (x, y) of each slice's body, in pixels of the slice.

    The position of a point is (point - mean) / deviation, which does not depend on where a patient lies in the slice
    nor on the patient's size. A slice without a body has mean 0 and deviation 1.
    """
    height, width = body.shape[1:]
    weight = body.double()
    total = weight.sum((1, 2)).clamp_min(1)
    means, deviations = [], []
    for axis, length in ((1, width), (2, height)):
        line = torch.arange(length, device=body.device, dtype=torch.float64) + 0.5
        along = weight.sum(axis)
        mean = (along * line).sum(-1) / total
        means.append(mean)
        deviations.append(((along * (line - mean[:, None]) ** 2).sum(-1) / total).sqrt().clamp_min(1))
    return torch.stack(means, -1), torch.stack(deviations, -1)


def anatomy_of(
    images_hu: Int16[Tensor, "B H W"], maps: Float64[Tensor, "B 2 3"], side: int, hu_min: float, hu_max: float
) -> Anatomy:
    """The anatomy under one view of each slice. Everything runs on the device of the images."""
    unit = (images_hu.float() - hu_min) / (hu_max - hu_min)  # outside of the slice is 0, which is air
    body = body_mask(images_hu)
    mean, deviation = body_frame(body)
    position = (to_source(maps, pixel_centers(side, maps)) - mean[:, None]) / deviation[:, None]
    return Anatomy(
        hu=hu_min + read_view(unit.unsqueeze(1), maps, side).clamp(0, 1) * (hu_max - hu_min),
        body=read_view(body.unsqueeze(1).float(), maps, side, mode="nearest") > 0.5,
        position=position.float().mT.reshape(-1, 2, side, side),
    )
