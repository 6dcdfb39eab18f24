"""The loss of masked image modelling. Pure functions of tensors.

Shape letters: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def masked_l1(
    prediction: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], counts: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, ""]:
    """The mean absolute error over all channels of the pixels that count, over the whole batch; 0 without any.

    Simple masked image modelling (SimMIM, Xie et al. 2022) has this loss on the hidden pixels.
    """
    error = (prediction.float() - target.float()).abs() * counts
    return error.sum() / (counts.sum() * target.shape[1]).clamp_min(1)
