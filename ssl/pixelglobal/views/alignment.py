"""Reading two views' feature maps at the same places of the slice, and PGL's and BYOL's loss on what was read.

Source: Xie et al. 2020, "PGL: Prior-guided local self-supervised learning for 3D medical image segmentation" (in two
dimensions here); Grill et al. 2020 (BYOL). A view is an affine map from its pixels to the slice, see `geometry`.

Shape letters: N images, C channels, h = w cells of a feature map, S side of a view in pixels, P points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from pixelglobal.views.geometry import pixel_centers, to_view

SAMPLES = 2  # reads of a cell along each axis, their mean is its value


def common_rectangle(maps_1: Tensor, maps_2: Tensor, side: int, height: int, width: int) -> Tensor:
    """The upright rectangle [N, 4] (x0, y0, x1, y1) of the slice, in source pixels, that both views reach into.

    Without rotation it is exactly what both views show. Where they share nothing, x1 <= x0 or y1 <= y0.
    """
    (low_1, high_1), (low_2, high_2) = _reach(maps_1, side), _reach(maps_2, side)
    low, high = torch.maximum(low_1, low_2), torch.minimum(high_1, high_2)
    x1, y1 = high[:, 0].clamp_max(width), high[:, 1].clamp_max(height)
    return torch.cat([low.clamp_min(0), torch.stack([x1, y1], -1)], -1)


def _reach(maps: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The least and the greatest source coordinates [N, 2] of a view's corners."""
    edges = maps[:, :, :2] * side  # columns: along the rows and the columns of the view
    return maps[:, :, 2] + edges.clamp_max(0).sum(-1), maps[:, :, 2] + edges.clamp_min(0).sum(-1)


def spans_a_cell(maps: Tensor, rectangle: Tensor, cell_pixels: float) -> Tensor:
    """Whether a rectangle of the slice is at least one feature cell of a view wide and high: bool [N].

    cell_pixels: the side of a feature cell, in pixels of the view.
    """
    scale = maps[:, :, 0].norm(dim=-1, keepdim=True)  # source pixels per view pixel
    return ((rectangle[:, 2:] - rectangle[:, :2]) / scale >= cell_pixels - 1e-6).all(-1)


def grid_of(rectangle: Tensor, cells: int) -> Tensor:
    """The centres [N, cells * cells, 2] of a regular grid over rectangles [N, 4], row by row, in source pixels."""
    unit = pixel_centers(cells, rectangle) / cells
    return rectangle[:, None, :2] + unit * (rectangle[:, None, 2:] - rectangle[:, None, :2])


def sees(maps: Tensor, points: Tensor, side: int) -> Tensor:
    """Whether source points [N, P, 2] lie inside a view: bool [N, P]."""
    at = to_view(maps, points)
    return ((at >= 0) & (at <= side)).all(-1)


def read_points(features: Tensor, maps: Tensor, points: Tensor, side: int) -> Tensor:
    """A view's feature map [N, C, h, h], read at source points [N, P, 2] by bilinear interpolation: [N, C, P].

    Beyond the centres of the outermost cells the map is continued by their values.
    """
    grid = (2 * to_view(maps, points) / side - 1).to(features.dtype)
    read = F.grid_sample(features, grid.unsqueeze(2), mode="bilinear", padding_mode="border", align_corners=False)
    return read.squeeze(-1)


def align_by_sampling(features: Tensor, maps: Tensor, rectangle: Tensor, side: int, cells: int) -> Tensor:
    """A view's feature map over a rectangle of the slice, upright as the slice is: [N, C, cells, cells].

    Right for every affine view, rotated ones too.
    """
    fine = cells * SAMPLES
    read = read_points(features, maps, grid_of(rectangle, fine), side)
    return F.avg_pool2d(read.view(*read.shape[:2], fine, fine), SAMPLES)


def align_by_roi(features: Tensor, maps: Tensor, rectangle: Tensor, side: int, cells: int) -> Tensor:
    """The same by ROI-align, PGL's own way, for views that are not rotated: [N, C, cells, cells].

    ROI-align reads a mirrored box as if it were not, so flips are undone afterwards.
    """
    ends = to_view(maps, rectangle.view(-1, 2, 2))
    boxes = torch.cat([ends.amin(1), ends.amax(1)], -1).to(features.dtype)
    index = torch.arange(len(features), device=features.device, dtype=features.dtype)
    read = roi_align(
        features,
        torch.cat([index[:, None], boxes], -1),
        output_size=cells,
        spatial_scale=features.shape[-1] / side,
        sampling_ratio=SAMPLES,
        aligned=True,
    )
    across, down = (maps[:, 0, 0] < 0), (maps[:, 1, 1] < 0)
    read = torch.where(across[:, None, None, None], read.flip(-1), read)
    return torch.where(down[:, None, None, None], read.flip(-2), read)


def direction_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """BYOL's squared distance [...] between unit vectors [..., D]: 2 - 2 cosine, in [0, 4]."""
    return 2 - 2 * F.cosine_similarity(prediction.float(), target.float(), dim=-1)


def aligned_loss(prediction: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """PGL's loss in one direction: the mean over an image's cells, then over images that have one; a scalar.

    prediction, target: aligned maps [N, C, h, w]; counts: bool [N, h, w], the cells that both views see.
    """
    distance = direction_distance(prediction.movedim(1, -1), target.movedim(1, -1)) * counts
    cells_N = counts.sum((1, 2))
    return (distance.sum((1, 2)) / cells_N.clamp_min(1)).sum() / (cells_N > 0).sum().clamp_min(1)
