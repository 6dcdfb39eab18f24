"""The losses of fine-tuning, in which a structure that nobody contoured is neither there nor absent.

Shape letters: B images, C classes with background, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def marginal_log_probabilities(logits: Tensor, contoured_BC: Tensor) -> Tensor:
    """Log-softmax [B, C, H, W] in which "background" means background or a structure nobody contoured in this patient.

    A structure that was not contoured may be anywhere in what the label calls background, so its probability is
    counted there and its own entry becomes -inf. contoured_BC: bool, column 0 (background) is ignored.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    hidden = ~contoured_BC.clone()
    hidden[:, 0] = False
    hidden = hidden[:, :, None, None]
    in_background = hidden.clone()
    in_background[:, 0] = True
    background = log_p.masked_fill(~in_background, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, log_p[:, 1:].masked_fill(hidden[:, 1:], -torch.inf)], 1)


def segmentation_loss(logits: Tensor, labels: Tensor, contoured_BC: Tensor, dice_weight: float) -> Tensor:
    """dice_weight x soft Dice loss + (1 - dice_weight) x cross-entropy; a scalar.

    logits [B, C, H, W], labels [B, H, W] integers, contoured_BC bool [B, C]. The Dice is over the batch, per
    structure, without background and without images in which the structure was not contoured.
    """
    log_p = marginal_log_probabilities(logits, contoured_BC)
    cross_entropy = -log_p.gather(1, labels.long().unsqueeze(1)).mean()
    probability = log_p[:, 1:].exp()
    reference = F.one_hot(labels.long(), logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].to(probability.dtype)
    seen = contoured_BC[:, 1:, None, None].to(probability.dtype)
    overlap_C = (probability * reference * seen).sum((0, 2, 3))
    size_C = ((probability + reference) * seen).sum((0, 2, 3))
    dice_C = (2 * overlap_C + 1e-5) / (size_C + 1e-5)
    used_C = contoured_BC[:, 1:].any(0).to(dice_C.dtype)
    dice_loss = ((1 - dice_C) * used_C).sum() / used_C.sum().clamp_min(1)
    return dice_weight * dice_loss + (1 - dice_weight) * cross_entropy
