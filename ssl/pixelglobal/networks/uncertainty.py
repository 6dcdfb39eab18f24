"""How unsure the teacher is of a pixel: entropy over passes with dropout, the paper's U of Eq. (6).

Shape letters: M pixels, K outputs of the head, B images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pixelglobal.devices import send


def entropy(probability: Tensor) -> Tensor:
    """Shannon entropy [...] of distributions [..., K], in nats; 0 log 0 is 0."""
    return -torch.special.xlogy(probability, probability).sum(-1)


def monte_carlo_uncertainty(one_pass: Callable[[], Tensor], passes: int, kind: str = "predictive") -> Tensor:
    """Uncertainty [M] in [0, 1] from repeated stochastic passes, each giving probabilities [M, K].

    kind: "predictive", entropy of the mean prediction (the paper's "average prediction entropy", as in UA-MT);
    "expected", mean entropy of the predictions; "mutual_information", their difference, which is what the passes
    disagree about. Divided by ln K. Only running means are kept, never all passes. No gradient.
    """
    kinds = ("predictive", "expected", "mutual_information")
    if kind not in kinds:
        raise ValueError(f"uncertainty={kind!r}: expected one of {', '.join(kinds)}")
    with torch.no_grad():
        mean_probability = one_pass().float()
        mean_entropy = entropy(mean_probability)
        for done in range(1, passes):
            probability = one_pass().float()
            mean_probability += (probability - mean_probability) / (done + 1)
            if kind != "predictive":
                mean_entropy += (entropy(probability) - mean_entropy) / (done + 1)
        of_mean = mean_entropy if kind == "expected" else entropy(mean_probability)
        nats = of_mean - mean_entropy if kind == "mutual_information" else of_mean
        return (nats / math.log(mean_probability.shape[-1])).clamp(0, 1)


def channel_mask(n_images: int, channels: int, probability: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """A dropout mask [B, channels] that drops whole channels and keeps the mean (inverted dropout)."""
    keep = torch.rand(n_images, channels, generator=generator, device=generator.device) >= probability
    return send(keep, like.device).to(like.dtype) / (1 - probability)
