"""How strongly each loss moves a network: the norms of their gradients, and the weight that makes two of them equal.

Shape letters: D length of a vector. Here it holds all parameters of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

MATCHED_WEIGHT_RANGE = (0.01, 100.0)
KEPT_OF_OLD_WEIGHT = 0.7  # at each measurement; the norms of one batch are noisy
AGAINST_UNDERFLOW = 2.0**10  # in half precision; a power of two, so it changes nothing elsewhere


def gradient_norms(
    losses: Sequence[Tensor | None],
    parameters: Sequence[Tensor],
    summed_over_workers: Callable[[Tensor], Tensor] = lambda values: values,
) -> Float[Tensor, " losses"]:
    """The Euclidean norm of each loss's gradient, which is the mean over all workers; 0 for None. Keeps the graphs."""
    gradients = torch.stack([flat_gradient(loss, parameters) for loss in losses])
    workers = summed_over_workers(gradients.new_ones(1))
    norms: Tensor = (summed_over_workers(gradients) / workers).norm(dim=1)
    return norms


def flat_gradient(loss: Tensor | None, parameters: Sequence[Tensor]) -> Float[Tensor, " D"]:
    """The gradient of a loss as one vector; the graph is kept. Zeros without a loss, or where none depends on it."""
    if loss is None or not loss.requires_grad:
        return torch.cat([torch.zeros_like(p, dtype=torch.float32).flatten() for p in parameters])
    found = torch.autograd.grad(loss * AGAINST_UNDERFLOW, parameters, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.float().flatten() for part in parts]) / AGAINST_UNDERFLOW


def matched_weight(
    old: Float[Tensor, ""], global_norm: Float[Tensor, ""], local_norm: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The factor of the local loss with which both losses pull equally: the quotient of the norms, smoothed, in range.

    The mean is that of logarithms. old: what it was, 0 if it was never measured; it stays where a norm is zero or not
    finite.
    """
    quotient = global_norm / local_norm
    known = torch.isfinite(quotient) & (quotient > 0)
    new = torch.where(known, quotient, old).clamp(*MATCHED_WEIGHT_RANGE)
    smoothed = torch.exp(torch.lerp(new.log(), old.clamp(*MATCHED_WEIGHT_RANGE).log(), KEPT_OF_OLD_WEIGHT))
    return torch.where(known, torch.where(old > 0, smoothed, new), old)
