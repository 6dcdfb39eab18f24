"""Labels that a fine-tuned network gives to slices of unlabelled patients, for a second round of fine-tuning.

Each pixel counts `1 - U`, as in the paper's Eq. (6), with U the entropy of the prediction divided by ln L: where
the network does not know, the second round learns little from it. Self-training as in Lee, "Pseudo-Label" (ICML
workshop 2013), with weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixelglobal.config.schema import Config
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.devices import autocast
from pixelglobal.evaluation.load_segmenter import load_segmenter
from pixelglobal.seeds import derive
from pixelglobal.training.pretrain import pretraining_cases
from pixelglobal.views.intensity import normalize, with_channels


def unlabelled_cases(config: Config, store: Store, labelled: Sequence[str]) -> list[str]:
    """The scans that self-training may label: those of pre-training, without the scans whose labels fine-tuning sees.

    Scans of validation and test are never among those of pre-training; `prepare` sees to it.
    """
    return [case for case in pretraining_cases(config, store) if case not in set(labelled)]


@torch.no_grad()
def pseudo_labelled(
    config: Config, store: Store, teacher: Path, labelled: Sequence[str], device: torch.device
) -> SliceBatch:
    """`finetune.pseudo_labels` slices of unlabelled patients with the labels that a fine-tuned model gives them.

    The slices depend on the seed alone. Structures that were not labelled for the teacher are taken for not contoured.
    Raises ValueError where no unlabelled patient is left.
    """
    cases = unlabelled_cases(config, store, labelled)
    if not cases:
        raise ValueError(
            f"finetune.pseudo_labels={config.finetune.pseudo_labels}: there is no unlabelled patient in the "
            f"{config.pretrain.cases} split of {store.root}; give 0, or prepare a cohort with patients to pre-train on"
        )
    segmenter, scale, facts = load_segmenter(teacher, device)
    segmenter.eval()
    contoured = torch.tensor([True, *(name in facts["structures_labelled"] for name in store.structures)])
    share = config.finetune.pseudo_labels / store.n_slices(cases)
    draws = np.random.default_rng(derive(config.seed, "pseudo-labelled slices"))
    parts = []
    for case in cases:
        whole = store.read_case(case)
        count = min(len(whole), int(share * len(whole) + draws.random()))
        if count == 0:
            continue
        chosen = whole.select(torch.from_numpy(np.sort(draws.permutation(len(whole))[:count])))
        x = normalize(with_channels(chosen.image_hu.to(device)), scale)
        with autocast(device, config.finetune.precision):
            scores = segmenter(x.contiguous(memory_format=torch.channels_last))
        log_p = scores.float().log_softmax(1)
        u = -(log_p.exp() * log_p).sum(1) / math.log(log_p.shape[1])
        parts.append(
            replace(
                chosen,
                label=scores.argmax(1).to(torch.uint8).cpu(),
                contoured=contoured.expand(len(chosen), -1),
                certainty=((1 - u).clamp(0, 1) * 255).round().to(torch.uint8).cpu(),
            )
        )
    return SliceBatch.concatenate(parts)
