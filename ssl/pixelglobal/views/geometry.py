"""Where a pixel of one view lies in the other: the paper's "augmentation prior dictionary" in closed form.

A view is an affine map from its own pixel coordinates to the coordinates of the slice it was cut from,
`source = matrix @ [x, y, 1]`, in pixels, (x, y) order, with the centre of pixel `i` at `i + 0.5`. Cropping, scaling,
rotation and flips are all in the one map, so a view is read with one interpolation, and the twin of a pixel follows
from two maps by algebra: no dictionary has to be recorded, shipped or searched.

Shape letters: B images, C channels, H rows, W columns, S side of a square image, Q points. There is one map, and so one
view, for each image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def view_map(
    center: Float[Tensor, "B 2"],
    scale: Float[Tensor, " B"],
    rotation: Float[Tensor, " B"],
    flip_horizontal: Bool[Tensor, " B"],
    flip_vertical: Bool[Tensor, " B"],
    side: int,
) -> Float[Tensor, "B 2 3"]:
    """The affine maps of square views.

    center: source point (x, y) under the middle of the view, in source pixels.
    scale: source pixels per view pixel (above 1 the view shrinks what it shows).
    rotation: in radians. flip_horizontal, flip_vertical: whether the view's columns, rows are mirrored.
    side: pixels of the view along an axis.
    """
    cosine, sine = torch.cos(rotation), torch.sin(rotation)
    across = torch.where(flip_horizontal, -scale, scale)
    down = torch.where(flip_vertical, -scale, scale)
    linear = torch.stack([cosine * across, -sine * down, sine * across, cosine * down], -1).view(-1, 2, 2)
    offset = center - side / 2 * linear.sum(-1)
    return torch.cat([linear, offset.unsqueeze(-1)], -1)


def pixel_centers(side: int, like: Tensor) -> Float[Tensor, "{side}*{side} 2"]:
    """The centres (x, y) of a view's pixels, row by row, with the precision and on the device of `like`."""
    line = torch.arange(side, device=like.device, dtype=like.dtype) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


def to_source(maps: Float[Tensor, "B 2 3"], points: Float[Tensor, "... Q 2"]) -> Float[Tensor, "B Q 2"]:
    """Source coordinates of points of views: the same points [Q, 2] of every view, or points [B, Q, 2] of each."""
    return points @ maps[..., :2].mT + maps[..., 2].unsqueeze(-2)


def to_view(maps: Float[Tensor, "B 2 3"], source: Float[Tensor, "B Q 2"]) -> Float[Tensor, "B Q 2"]:
    """View coordinates of source points: the inverse of `to_source`."""
    (a, b), (c, d) = maps[..., 0, :2].unbind(-1), maps[..., 1, :2].unbind(-1)
    # In closed form: a library's inverse would wait for the GPU to learn whether there is one.
    inverse = torch.stack([d, -b, -c, a], -1).view(*a.shape, 2, 2) / (a * d - b * c)[..., None, None]
    return (source - maps[..., 2].unsqueeze(-2)) @ inverse.mT


def twin_table(
    maps_1: Float[Tensor, "B 2 3"], maps_2: Float[Tensor, "B 2 3"], side: int, height: int, width: int
) -> Int64[Tensor, "B {side}*{side}"]:
    """For each pixel of view 1 the flat index of its twin in view 2, or -1.

    height, width: rows and columns of the slice. A pixel has a twin if its source point lies inside the slice (not in
    padding) and inside view 2. The twin is the pixel of view 2 that contains the point, so the two centres are at most
    half a pixel of view 2 apart on each axis. Paper, "Augmentation-guided pixel-to-pixel matching".
    """
    source = to_source(maps_1.double(), pixel_centers(side, maps_1.double()))
    inside_slice = (source >= 0).all(-1) & (source[..., 0] < width) & (source[..., 1] < height)
    # A point on the border of two pixels must fall to the same side on every device: nudge by a millionth of a pixel.
    pixel = torch.floor(to_view(maps_2.double(), source) + 1e-6).long()
    inside_view = ((pixel >= 0) & (pixel < side)).all(-1)
    index = pixel[..., 1] * side + pixel[..., 0]
    return torch.where(inside_slice & inside_view, index, -1)


def read_view(
    images: Float[Tensor, "B C H W"], maps: Float[Tensor, "B 2 3"], side: int, *, mode: str = "bilinear"
) -> Float[Tensor, "B C {side} {side}"]:
    """Cut square views out of images; outside the image is 0.

    mode: "bilinear" for intensities, "nearest" for labels.
    """
    height, width = images.shape[-2:]
    source = to_source(maps, pixel_centers(side, maps)).view(-1, side, side, 2)
    grid = torch.stack([2 * source[..., 0] / width - 1, 2 * source[..., 1] / height - 1], -1).to(images.dtype)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)
