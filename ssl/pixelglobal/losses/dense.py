"""Losses on the cells of two feature maps: those of DenseCL and PixPro. Pure functions of tensors.

Source: Wang et al. 2021, "Dense contrastive learning for self-supervised visual pre-training" (DenseCL); Xie et al.
2021, "Propagate yourself" (PixPro). A cell is one entry of a feature map; products are in fp32.

Shape letters: B images, C channels, D length of a vector, Q points. Here the points are the cells of a map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def most_alike(features_1: Float[Tensor, "B C Q"], features_2: Float[Tensor, "B C Q"]) -> Int64[Tensor, "B Q"]:
    """For each cell of map 1 the cell of map 2 with the greatest cosine: DenseCL's correspondence, without gradient."""
    with torch.no_grad(), torch.autocast(features_1.device.type, enabled=False):
        return (F.normalize(features_1.float(), dim=1).mT @ F.normalize(features_2.float(), dim=1)).argmax(-1)


def propagate(
    maps: Float[Tensor, "B D Q"], transformed: Float[Tensor, "B D Q"], power: float
) -> Float[Tensor, "B D Q"]:
    """PixPro's pixel propagation: each cell is the sum of all transformed cells, weighted by how alike the maps are.

    The weight of two cells is their cosine in `maps`, cut at 0, to a power.
    """
    with torch.autocast(maps.device.type, enabled=False):
        unit = F.normalize(maps.float(), dim=1)
        alike = (unit.mT @ unit).clamp_min(0) ** power
        return F.normalize(transformed.float(), dim=1) @ alike


def agreement(
    cells_1: Float[Tensor, "B D Q"], cells_2: Float[Tensor, "B D Q"], positive: Bool[Tensor, "B Q Q"]
) -> Float[Tensor, " B"]:
    """The mean cosine of the pairs of cells, of map 1 and map 2, that are positives; 0 where an image has none."""
    with torch.autocast(cells_1.device.type, enabled=False):
        cosine = F.normalize(cells_1.float(), dim=1).mT @ F.normalize(cells_2.float(), dim=1)
    return (cosine * positive).sum((1, 2)) / (positive.sum((1, 2)) + 1e-6)
