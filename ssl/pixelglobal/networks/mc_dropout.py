"""Uncertainty of many pixels from dropout before a projection head, without 20 passes over memory.

A pass multiplies each image's pixel features by the image's channel mask and runs the head. What couples the pixels of
a pass is only the batch norm of the head's hidden layer, and its statistics follow from the features' first and second
moments: with h = W (m * y), the mean of h is W (m * E y) and the mean of h^2 is diag(W (m m' * E y y') W'). So they are
known before any pass, and a block of pixels can run all its passes while it lies in the cache. The result is that of
whole passes, to rounding.

Shape letters: M matched pixel pairs, B images, C channels, P dropout passes, F hidden units, K outputs of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from pixelglobal.networks.heads import ProjectionHead
from pixelglobal.networks.uncertainty import entropy

BLOCK_PIXELS = {"cpu": 4096, "cuda": 131072}  # so that a block's activations stay in the cache


def can_run_in_blocks(head: ProjectionHead) -> bool:
    """Whether the head has one hidden layer and no batch norm of its logits, which would couple the pixels again."""
    wanted: tuple[Any, ...] = (nn.Linear, (nn.BatchNorm1d, nn.SyncBatchNorm), nn.GELU, nn.Linear)
    layers = list(head.layers)
    fits = len(layers) == len(wanted) and all(
        isinstance(layer, kind) for layer, kind in zip(layers, wanted, strict=True)
    )
    return fits and isinstance(head.logit_norm, nn.Identity)


@torch.no_grad()
def predictive_uncertainty(
    head: ProjectionHead,
    y_MC: Float[Tensor, "M C"],
    matched_B: Sequence[int],
    masks_PBC: Float[Tensor, "P B C"],
    center: Float[Tensor, " K"],
    temperature: float,
) -> Float[Tensor, " M"]:
    """Entropy of the mean prediction over the passes, divided by ln K: the paper's U.

    y_MC: features before dropout, image by image; matched_B: how many each image has. The running averages of the
    head's batch norm are not touched. Equals `monte_carlo_uncertainty` of whole passes with the same masks.
    """
    images = torch.split(y_MC, list(matched_B))
    first, last = head.layers[0], head.layers[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    device = y_MC.device.type
    with torch.autocast(device, enabled=False):  # sums of squares overflow half precision
        scale_PF, shift_PF = _hidden_norm(head, images, masks_PBC)
    weights_PFC = first.weight * scale_PF.unsqueeze(2)
    # Centre and temperature of the targets, inside the last product.
    prototypes, bias = F.normalize(head.prototypes.float(), dim=-1) / temperature, -center / temperature
    block_pixels = BLOCK_PIXELS.get(device, BLOCK_PIXELS["cuda"])
    uncertainty = []
    for b, y_of_image in enumerate(images):
        weights = (weights_PFC * masks_PBC[:, b, None]).unbind()  # the mask of a whole image is a mask of the weights
        for y in torch.split(y_of_image, block_pixels):
            mean = torch.zeros(len(y), len(prototypes), device=y.device)
            for weight, shift in zip(weights, shift_PF.unbind(), strict=True):
                bottleneck = F.linear(F.gelu(F.linear(y, weight, shift)), last.weight, last.bias)
                with torch.autocast(device, enabled=False):
                    mean += F.linear(F.normalize(bottleneck.float(), dim=-1), prototypes, bias).softmax(-1)
            uncertainty.append(entropy(mean / len(masks_PBC)) / math.log(len(prototypes)))
    return torch.cat(uncertainty).clamp(0, 1)


def _hidden_norm(
    head: ProjectionHead, images: Sequence[Float[Tensor, "_ C"]], masks_PBC: Float[Tensor, "P B C"]
) -> tuple[Float32[Tensor, "P F"], Float32[Tensor, "P F"]]:
    """What the hidden layer's batch norm does in each pass, as a factor and a summand."""
    first, norm = head.layers[0], head.layers[1]
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d | nn.SyncBatchNorm)
    if norm.training or norm.running_mean is None or norm.running_var is None:
        n_pixels = torch.full((1,), sum(len(y) for y in images), dtype=torch.double, device=first.weight.device)
        sum_BC = torch.stack([y.float().sum(0) for y in images]).double()
        square_BCC = torch.stack([y.float().T @ y.float() for y in images]).double()
        masked = first.weight.double() * masks_PBC.double().unsqueeze(2)  # [P, B, F, C]
        total = torch.einsum("pbfc,bc->pf", masked, sum_BC)
        total_square = (torch.einsum("pbfc,bcd->pbfd", masked, square_BCC) * masked).sum((1, 3))
        if isinstance(norm, nn.SyncBatchNorm):
            for sums in (total, total_square, n_pixels):
                torch.distributed.all_reduce(sums, group=norm.process_group)
        mean, square = total / n_pixels, total_square / n_pixels
        variance = (square - mean.square()).clamp_min(0)
    else:
        mean, variance = norm.running_mean.double().unsqueeze(0), norm.running_var.double().unsqueeze(0)
    scale = norm.weight.double() * (variance + norm.eps).rsqrt()
    shift = norm.bias.double() - mean * scale
    passes = len(masks_PBC)
    return scale.float().expand(passes, -1), shift.float().expand(passes, -1)
