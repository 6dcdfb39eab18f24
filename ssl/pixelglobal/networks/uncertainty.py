"""How unsure the teacher is of a pixel: entropy over passes with dropout, the paper's U of Eq. (6).

Shape letters: B images, C channels, N vectors, K outputs of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pixelglobal.devices import send


def entropy(probability: Float[Tensor, "*shape K"]) -> Float[Tensor, "*shape"]:
    """Shannon entropy of distributions, in nats; 0 log 0 is 0."""
    nats: Tensor = -torch.special.xlogy(probability, probability).sum(-1)
    return nats


def monte_carlo_uncertainty(
    one_pass: Callable[[], Float[Tensor, "N K"]], passes: int, measure: str = "predictive"
) -> Float[Tensor, " N"]:
    """Uncertainty in [0, 1] from repeated stochastic passes, each of which gives probabilities.

    measure: "predictive", entropy of the mean prediction (the paper's "average prediction entropy", as in UA-MT);
    "expected", mean entropy of the predictions; "mutual_information", their difference, which is what the passes
    disagree about. It is divided by ln K. Only running means are kept, never all passes, and there is no gradient.
    Raises ValueError for any other measure.
    """
    measures = ("predictive", "expected", "mutual_information")
    if measure not in measures:
        raise ValueError(f"uncertainty={measure!r}: expected one of {', '.join(measures)}")
    with torch.no_grad():
        mean_probability = one_pass().float()
        mean_entropy = entropy(mean_probability)
        for done in range(1, passes):
            probability = one_pass().float()
            mean_probability += (probability - mean_probability) / (done + 1)
            if measure != "predictive":
                mean_entropy += (entropy(probability) - mean_entropy) / (done + 1)
        of_mean = mean_entropy if measure == "expected" else entropy(mean_probability)
        nats = of_mean - mean_entropy if measure == "mutual_information" else of_mean
        return (nats / math.log(mean_probability.shape[-1])).clamp(0, 1)


def channel_mask(
    n_images: int, channels: int, probability: float, like: Tensor, generator: torch.Generator
) -> Float[Tensor, "{n_images} {channels}"]:
    """A dropout mask [B, C] that drops whole channels and keeps the mean (inverted dropout).

    It has the precision of `like` and lies on its device; the generator decides which channels are dropped.
    """
    keep = torch.rand(n_images, channels, generator=generator, device=generator.device) >= probability
    return send(keep, like.device).to(like.dtype) / (1 - probability)
