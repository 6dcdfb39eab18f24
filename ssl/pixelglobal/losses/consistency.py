"""The paper's Eqs. (3) to (6). Pure functions of tensors.

Shape letters: B images, M matched pixel pairs, K outputs of a head. `image_M` names the image of each pair.
Softmax, logarithms and sums are in fp32 whatever the precision of the inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor


def targets(
    teacher_logits: Float[Tensor, "*shape K"], center: Float[Tensor, " K"], temperature: float
) -> Float[Tensor, "*shape K"]:
    """The teacher's softmax, centred and sharpened as in DINO; the y'_t, z'_t of the paper."""
    return F.softmax((teacher_logits.float() - center) / temperature, dim=-1)


def disagreement(
    target: Float[Tensor, "*shape K"], student_logits: Float[Tensor, "*shape K"], temperature: float
) -> Float[Tensor, "*shape"]:
    """Cross-entropy of the student against the teacher's target, in nats.

    Eq. (3) of one image when given global vectors; the summand of Eq. (4) when given matched pixels.
    """
    return -(target * F.log_softmax(student_logits.float() / temperature, dim=-1)).sum(-1)


def global_loss(
    target_BK: Float[Tensor, "B K"], student_logits_BK: Float[Tensor, "B K"], temperature: float
) -> Float[Tensor, ""]:
    """Eq. (3), averaged over images."""
    return disagreement(target_BK, student_logits_BK, temperature).mean()


def stabilise(disagreement_M: Float[Tensor, " M"], partner_M: Float[Tensor, " M"], form: str) -> Float[Tensor, " M"]:
    """What is left of each pair's disagreement when that of the same pixels of the partner is taken away.

    abs_pixel: |a - b|, Eq. (6) as printed; it is zero for any constant network.
    hinge: max(0, a - b), which never rewards disagreeing as much as the partner does.
    off: a, Eq. (4).
    Raises ValueError for any other form.
    """
    if form == "off":
        return disagreement_M
    difference = disagreement_M - partner_M
    if form == "abs_pixel":
        return difference.abs()
    if form == "hinge":
        return difference.clamp_min(0)
    raise ValueError(f"stabilizer={form!r} has no value per pixel: expected off, abs_pixel or hinge")


def per_image(
    values_M: Float[Tensor, " M"], counts_M: Shaped[Tensor, " M"], image_M: Int64[Tensor, " M"], n_images: int
) -> tuple[Float[Tensor, " {n_images}"], Float[Tensor, " {n_images}"]]:
    """The sum of the values, and the number of the pairs that count, of each image.

    counts_M: 1 or True for pairs that count, 0 or False for others.
    """
    zeros = torch.zeros(n_images, device=values_M.device, dtype=values_M.dtype)
    counts_M = counts_M.to(values_M.dtype)
    return zeros.index_add(0, image_M, values_M * counts_M), zeros.index_add(0, image_M, counts_M)


def mean_one(certainty_M: Float[Tensor, " M"], image_M: Int64[Tensor, " M"], n_images: int) -> Float[Tensor, " M"]:
    """The 1 - U of Eq. (6), divided by its mean over each image: it then weighs pixels but not the whole loss.

    >>> mean_one(torch.tensor([0.1, 0.3, 0.5]), torch.tensor([0, 0, 1]), 2)
    tensor([0.5000, 1.5000, 1.0000])
    """
    total_B, count_B = per_image(certainty_M, torch.ones_like(certainty_M), image_M, n_images)
    return certainty_M / (total_B / count_B.clamp_min(1)).clamp_min(1e-6)[image_M]


def local_loss(
    disagreement_M: Float[Tensor, " M"],
    partner_M: Float[Tensor, " M"] | None,
    certainty_M: Float[Tensor, " M"] | None,
    image_M: Int64[Tensor, " M"],
    n_images: int,
    *,
    stabilizer: str,
    reduction: str,
    counts_M: Bool[Tensor, " M"] | None = None,
) -> Float[Tensor, ""]:
    """Eqs. (4), (5) and (6) in one place.

    partner_M: the same pairs' disagreement in the partner image x~ (None with stabilizer="off").
    certainty_M: 1 - U of Eq. (6), or None for no weighting.
    stabilizer: "off" Eq. (4); "abs_image" Eq. (5), one absolute value around an image's sum; "abs_pixel" Eq. (6);
        "hinge", which has no trivial minimum.
    reduction: "sum" over an image's pairs as printed, or their "mean". Images are averaged; those without a
        matched pair count in neither. The loss of a batch without any pair is 0.
    counts_M: which pairs are in the loss at all; None for all.
    Raises ValueError for an unknown stabilizer or reduction.
    """
    if stabilizer == "abs_image":
        assert partner_M is not None
        values_M = disagreement_M - partner_M
    else:
        values_M = stabilise(disagreement_M, disagreement_M if partner_M is None else partner_M, stabilizer)
    if certainty_M is not None:
        values_M = certainty_M * values_M
    if counts_M is None:
        counts_M = torch.ones_like(values_M)
    total_B, count_B = per_image(values_M, counts_M, image_M, n_images)
    if stabilizer == "abs_image":
        total_B = total_B.abs()
    if reduction == "mean":
        total_B = total_B / count_B.clamp_min(1)
    elif reduction != "sum":
        raise ValueError(f"pixel_reduction={reduction!r}: expected mean or sum")
    return total_B.sum() / (count_B > 0).sum().clamp_min(1)
