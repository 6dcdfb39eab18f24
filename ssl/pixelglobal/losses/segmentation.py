"""The losses of fine-tuning, in which a structure that nobody contoured is neither there nor absent.

Shape letters: B images, L labels, H rows, W columns. Label 0 is the background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor


def marginal_log_probabilities(
    logits: Float[Tensor, "B L H W"], contoured_BL: Bool[Tensor, "B L"]
) -> Float[Tensor, "B L H W"]:
    """Log-softmax in which "background" means background or a structure nobody contoured in this patient.

    A structure that was not contoured may be anywhere in what the label calls background, so its probability is
    counted there and its own entry becomes -inf. Column 0 of contoured_BL (background) is ignored.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    hidden = ~contoured_BL
    hidden[:, 0] = False
    hidden = hidden[:, :, None, None]
    in_background = hidden.clone()
    in_background[:, 0] = True
    background = log_p.masked_fill(~in_background, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, log_p[:, 1:].masked_fill(hidden[:, 1:], -torch.inf)], 1)


def segmentation_loss(
    logits: Float[Tensor, "B L H W"],
    labels: Integer[Tensor, "B H W"],
    contoured_BL: Bool[Tensor, "B L"],
    dice_weight: float,
    weight_BHW: Float[Tensor, "B H W"] | None = None,
) -> Float[Tensor, ""]:
    """dice_weight x soft Dice loss + (1 - dice_weight) x cross-entropy.

    contoured_BL: whether each structure was contoured in the patient of each image. The Dice is over the batch, per
    structure, without background and without images in which the structure was not contoured. weight_BHW: how much each
    pixel counts in both, None for 1; the cross-entropy is divided by the number of pixels and not by their weights.
    """
    log_p = marginal_log_probabilities(logits, contoured_BL)
    entropy_B1HW = -log_p.gather(1, labels.long().unsqueeze(1))
    cross_entropy = entropy_B1HW.mean() if weight_BHW is None else (entropy_B1HW * weight_BHW.unsqueeze(1)).mean()
    probability = log_p[:, 1:].exp()
    reference = F.one_hot(labels.long(), logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].to(probability.dtype)
    seen = contoured_BL[:, 1:, None, None].to(probability.dtype)
    if weight_BHW is not None:
        seen = seen * weight_BHW.unsqueeze(1)
    overlap_L = (probability * reference * seen).sum((0, 2, 3))
    size_L = ((probability + reference) * seen).sum((0, 2, 3))
    dice_L = (2 * overlap_L + 1e-5) / (size_L + 1e-5)
    used_L = contoured_BL[:, 1:].any(0).to(dice_L.dtype)
    dice_loss = ((1 - dice_L) * used_L).sum() / used_L.sum().clamp_min(1)
    return dice_weight * dice_loss + (1 - dice_weight) * cross_entropy
