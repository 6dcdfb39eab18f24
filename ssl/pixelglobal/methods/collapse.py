"""Has the network stopped saying anything? Measures of codes and features, and a verdict.

The local loss cannot tell: a constant output makes Eqs. (5) and (6) zero. What tells is the information that a code
carries about its input, I = H(mean code) - mean H(code), which vanishes both when every input gets the same code and
when every input gets the uniform one.

Shape letters: N vectors, K outputs of a head, D length of a vector. A vector may be that of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelglobal.networks.uncertainty import entropy

# Shares of the largest possible information, and of the spread of isotropic features, below which it is said.
INFORMATION_WARNING, INFORMATION_COLLAPSE = 0.15, 0.05


SPREAD_WARNING, SPREAD_COLLAPSE = 0.3, 0.1


UNIFORM_NATS = 0.01  # a cross-entropy this close to ln K is that of the uniform code


UNIFORM_MEASURES = 4  # for so many measures in a row


FEWEST_VECTORS = 1024  # that information is judged on: a few vectors look more alike, or less, than all do


def code_measures(code_NK: Tensor) -> dict[str, Tensor]:
    """What probabilities [N, K] say: entropies and information as shares of ln K, and the share of codes in use.

    >>> uniform, single, all_codes = torch.full((8, 4), 0.25), torch.eye(4)[[0] * 8], torch.eye(4).repeat(2, 1)
    >>> [abs(round(code_measures(code)["information"].item(), 2)) for code in (uniform, single, all_codes)]
    [0.0, 0.0, 1.0]
    """
    code_NK = code_NK.float()
    k = code_NK.shape[-1]
    of_mean, mean = entropy(code_NK.mean(0)) / math.log(k), entropy(code_NK).mean() / math.log(k)
    used = torch.zeros(k, device=code_NK.device).index_fill_(0, code_NK.argmax(-1), 1.0).mean()
    return {"entropy_of_mean": of_mean, "mean_entropy": mean, "information": of_mean - mean, "codes_used": used}


class RecentCodes(nn.Module):
    """The mean code and the mean entropy of about the last 1,024 vectors of all workers, kept with the weights.

    Each vector counts less the more vectors have come after it; the first ones count equally until they are that many.
    """

    mean_K: Tensor
    entropy: Tensor
    seen: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.register_buffer("mean_K", torch.zeros(k))
        self.register_buffer("entropy", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def add(self, code_NK: Tensor, summed_over_workers: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        """Take note of this step's probabilities [N, K]; every worker must call it, with none if need be."""
        code_NK = code_NK.float()
        count = code_NK.new_full((1,), len(code_NK))
        total = summed_over_workers(torch.cat([code_NK.sum(0), entropy(code_NK).sum()[None], count]))
        now, count = total[:-1] / total[-1].clamp_min(1), total[-1]
        self.seen += count
        share = (count / self.seen.clamp(1, FEWEST_VECTORS)).clamp_max(1)
        self.mean_K.lerp_(now[:-1], share)
        self.entropy.lerp_(now[-1], share)

    def measures(self) -> dict[str, Tensor]:
        """As `code_measures` of all of them: entropies and information as shares of ln K."""
        log_k = math.log(len(self.mean_K))
        of_mean, mean = entropy(self.mean_K) / log_k, self.entropy / log_k
        return {"entropy_of_mean": of_mean, "mean_entropy": mean, "information": of_mean - mean}


def feature_spread(features_ND: Tensor) -> Tensor:
    """Mean standard deviation of L2-normalised features, times sqrt(D): 1 if isotropic, 0 if constant.

    Chen & He (SimSiam, CVPR 2021).

    >>> feature_spread(torch.ones(16, 8)).item()
    0.0
    """
    unit = F.normalize(features_ND.float(), dim=-1)
    return unit.std(0, correction=0).mean() * math.sqrt(unit.shape[-1])


def rank_me(features_ND: Tensor, *, centered: bool = False) -> Tensor:
    """Effective rank, exp of the entropy of normalised singular values, between 1 and min(N, D).

    Garrido et al. (RankMe, ICML 2023). Only comparable at equal N and D; `centered` takes the mean vector away first.

    >>> round(rank_me(torch.eye(8)).item(), 2)
    8.0
    """
    features = features_ND.float()
    if centered:
        features = features - features.mean(0)
    values = torch.linalg.svdvals(features)
    return torch.exp(entropy(values / values.sum().clamp_min(1e-12) + 1e-7))


def match_rank(view_1_ND: Tensor, view_2_ND: Tensor, image_N: Tensor) -> dict[str, Tensor]:
    """Is a pixel's true twin its nearest among sampled pixels of the same image?  Needs no labels.

    Row i of both are features of one twin pair. "top_1": share of pairs whose twin is nearest (cosine); "mean_rank":
    how many other pixels are nearer, as a share: 0 is best and 0.5 is chance. Ties count half, so that constant
    features are at chance. An image needs two sampled pixels to be counted.

    >>> {k: v.item() for k, v in match_rank(torch.eye(4), torch.eye(4), torch.zeros(4)).items()}
    {'top_1': 1.0, 'mean_rank': 0.0}
    """
    likeness = F.normalize(view_1_ND.float(), dim=-1) @ F.normalize(view_2_ND.float(), dim=-1).T
    others = image_N[:, None] == image_N[None, :]
    others.fill_diagonal_(False)
    twin = likeness.diagonal().unsqueeze(1)
    tie = (likeness - twin).abs() <= 1e-6
    nearer = ((likeness > twin) & ~tie & others).sum(1) + 0.5 * (tie & others).sum(1)
    count = others.sum(1)
    counted = (count > 0).float()
    total = counted.sum().clamp_min(1)
    return {
        "top_1": ((nearer == 0).float() * counted).sum() / total,
        "mean_rank": (nearer / count.clamp_min(1) * counted).sum() / total,
    }


@dataclass(frozen=True)
class HeadMeasures:
    """Measures of one head by name, scalars on the device; information is that of n vectors with k outputs."""

    values: dict[str, Tensor]
    n: int | Tensor
    k: int


def head_measures(code_NK: Tensor, cross_entropy: Tensor, bottleneck_ND: Tensor, recent: RecentCodes) -> HeadMeasures:
    """What a head's codes and its bottleneck say; entropies and information are those of its recent codes.

    cross_entropy: of student and teacher, in nats.
    """
    k = code_NK.shape[1]
    values = code_measures(code_NK) | recent.measures()
    values |= {
        "cross_entropy_over_ln_k": cross_entropy / math.log(k),
        "spread": feature_spread(bottleneck_ND),
        "rank_me": rank_me(bottleneck_ND),
        "rank_me_centered": rank_me(bottleneck_ND, centered=True),
    }
    return HeadMeasures(values, recent.seen.clamp_max(FEWEST_VECTORS), k)


@dataclass(frozen=True)
class Verdict:
    """What the measures say, in words."""

    state: Literal["healthy", "warning", "collapsed"]
    reason: str = ""


def verdict(measures: Mapping[str, float], *, n: int, k: int, uniform_in_a_row: int = 0) -> Verdict:
    """Judge one head by its `information` (share of ln K), measured on n vectors with k outputs, and its `spread`.

    Information is judged on 1,024 vectors or more, against ln min(n, k), the most that they can carry.
    uniform_in_a_row: for how many measures the cross-entropy has been that of the uniform code.
    """
    information = measures["information"] * math.log(k) / math.log(min(n, k)) if n >= FEWEST_VECTORS else math.inf
    spread = measures["spread"]
    if uniform_in_a_row >= UNIFORM_MEASURES:
        return Verdict("collapsed", f"its cross-entropy has stayed at ln K = {math.log(k):.3f}, the uniform code's")
    if information < INFORMATION_COLLAPSE:
        same = measures["mean_entropy"] < 0.5
        code = "every input gets the same code" if same else "every input gets the uniform code"
        return Verdict("collapsed", f"its codes carry {information:.1%} of the information they could: {code}")
    if spread < SPREAD_COLLAPSE:
        return Verdict("collapsed", f"its features are nearly constant (spread {spread:.2f}, isotropic 1)")
    if information < INFORMATION_WARNING or spread < SPREAD_WARNING:
        known = f"information {information:.1%} of what is possible, " if n >= FEWEST_VECTORS else ""
        return Verdict("warning", f"{known}spread of features {spread:.2f}")
    return Verdict("healthy")


def encoder_measures(vectors_ND: Tensor) -> HeadMeasures:
    """What the pooled vectors of an encoder say, for methods whose heads give no codes."""
    values = {"spread": feature_spread(vectors_ND), "rank_me_centered": rank_me(vectors_ND, centered=True)}
    return HeadMeasures(values, len(vectors_ND), 1)


def encoder_verdict(spread: float, first_spread: float) -> Verdict:
    """Judge an encoder by the spread of its vectors, against that at the first look.

    Vectors behind a ReLU have a large mean and are never isotropic; how much depends on the encoder.

    >>> [encoder_verdict(spread, 0.8).state for spread in (0.7, 0.2, 0.05)]
    ['healthy', 'warning', 'collapsed']
    """
    known = f"its vectors differ little from slice to slice (spread {spread:.2f}, {first_spread:.2f} at the first look)"
    if spread < SPREAD_COLLAPSE * first_spread:
        return Verdict("collapsed", known)
    return Verdict("warning" if spread < SPREAD_WARNING * first_spread else "healthy", known)
