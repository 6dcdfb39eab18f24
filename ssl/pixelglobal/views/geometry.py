"""Where a pixel of one view lies in the other: the paper's "augmentation prior dictionary" in closed form.

A view is an affine map from its own pixel coordinates to the coordinates of the slice it was cut from,
`source = matrix @ [x, y, 1]`, in pixels, (x, y) order, with the centre of pixel `i` at `i + 0.5`. Cropping, scaling,
rotation and flips are all in the one map, so a view is read with one interpolation, and the twin of a pixel follows
from two maps by algebra: no dictionary has to be recorded, shipped or searched.

Shape letters: N views, S side of a view, H and W of the source slice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def view_map(
    center: Tensor, scale: Tensor, rotation: Tensor, flip_horizontal: Tensor, flip_vertical: Tensor, side: int
) -> Tensor:
    """The affine maps [N, 2, 3] of N square views.

    center: [N, 2] source point (x, y) under the middle of the view, in source pixels.
    scale: [N] source pixels per view pixel (above 1 the view shrinks what it shows).
    rotation: [N] radians. flip_horizontal, flip_vertical: [N] bool, mirror the view's columns, rows.
    """
    cosine, sine = torch.cos(rotation), torch.sin(rotation)
    across = torch.where(flip_horizontal, -scale, scale)
    down = torch.where(flip_vertical, -scale, scale)
    linear = torch.stack([cosine * across, -sine * down, sine * across, cosine * down], -1).view(-1, 2, 2)
    offset = center - side / 2 * linear.sum(-1)
    return torch.cat([linear, offset.unsqueeze(-1)], -1)


def pixel_centers(side: int, like: Tensor) -> Tensor:
    """The centres [S*S, 2] of a view's pixels, (x, y), row by row."""
    line = torch.arange(side, device=like.device, dtype=like.dtype) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


def to_source(maps: Tensor, points: Tensor) -> Tensor:
    """Source coordinates [N, P, 2] of view points [P, 2] or [N, P, 2]."""
    return points @ maps[..., :2].mT + maps[..., 2].unsqueeze(-2)


def to_view(maps: Tensor, source: Tensor) -> Tensor:
    """View coordinates [N, P, 2] of source points [N, P, 2]: the inverse of `to_source`."""
    (a, b), (c, d) = maps[..., 0, :2].unbind(-1), maps[..., 1, :2].unbind(-1)
    # In closed form: a library's inverse would wait for the GPU to learn whether there is one.
    inverse = torch.stack([d, -b, -c, a], -1).view(*a.shape, 2, 2) / (a * d - b * c)[..., None, None]
    return (source - maps[..., 2].unsqueeze(-2)) @ inverse.mT


def twin_table(maps_1: Tensor, maps_2: Tensor, side: int, height: int, width: int) -> Tensor:
    """For each pixel of view 1 the flat index of its twin in view 2, or -1: int64 [N, S*S].

    A pixel has a twin if its source point lies inside the slice (not in padding) and inside view 2. The twin is
    the pixel of view 2 that contains the point, so the two centres are at most half a pixel of view 2 apart on
    each axis. Paper, "Augmentation-guided pixel-to-pixel matching".
    """
    source = to_source(maps_1.double(), pixel_centers(side, maps_1.double()))
    inside_slice = (source >= 0).all(-1) & (source[..., 0] < width) & (source[..., 1] < height)
    # A point on the border of two pixels must fall to the same side on every device: nudge by a millionth of a pixel.
    cell = torch.floor(to_view(maps_2.double(), source) + 1e-6).long()
    inside_view = ((cell >= 0) & (cell < side)).all(-1)
    index = cell[..., 1] * side + cell[..., 0]
    return torch.where(inside_slice & inside_view, index, -1)


def read_view(images: Tensor, maps: Tensor, side: int, *, mode: str = "bilinear") -> Tensor:
    """Cut views [N, C, S, S] out of images [N, C, H, W]; outside the image is 0.

    mode: "bilinear" for intensities, "nearest" for labels.
    """
    height, width = images.shape[-2:]
    source = to_source(maps, pixel_centers(side, maps)).view(-1, side, side, 2)
    grid = torch.stack([2 * source[..., 0] / width - 1, 2 * source[..., 1] / height - 1], -1).to(images.dtype)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)
