"""Recipes of other projects for the same network and labelled slices: their loss, optimiser, schedule and augmentation.

Neither mirrors slices: both would give mirrored organs the names of the other side. Their networks, deep supervision
and sliding windows are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pixelglobal import config as settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.losses.segmentation import segmentation_loss
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.seeds import generator
from pixelglobal.training.initial_segmenter import initial_segmenter
from pixelglobal.training.labelled import SliceSampler, class_frequencies, training_slices
from pixelglobal.training.optim import set_learning_rate, warmup_polynomial
from pixelglobal.views.augment import draw_whole_slices, mirror_labels, render, render_labels
from pixelglobal.views.intensity import HuScale

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
COMMON = {"classifier_bias": "default", "flip_horizontal_probability": 0.0, "flip_vertical_probability": 0.0}
PEERS: dict[str, dict[str, Any]] = {
    # MONAI's tutorials of segmentation: DiceCELoss, AdamW, one cycle, small affine changes, half by structure.
    "MONAI": {
        **COMMON, "by_structure_fraction": 0.5, "learning_rate": 1e-3, "weight_decay": 1e-5,
        "rotation_degrees_max": 15, "rotation_probability": 0.5, "scale_min": 0.9, "scale_max": 1.1,
        "translation_fraction": 0.05, "contrast_min": 0.9, "contrast_max": 1.1, "contrast_probability": 0.5,
        "gamma_probability": 0.0,
    },
    # nnU-Net: SGD with Nesterov momentum 0.99, polynomial, Dice and cross-entropy, a third oversampled, all slices.
    "nnU-Net-like": {
        **COMMON, "by_structure_fraction": 0.33, "slices": "all", "learning_rate": 1e-2, "weight_decay": 3e-5,
        "rotation_degrees_max": 180, "rotation_probability": 0.2, "scale_min": 0.7, "scale_max": 1.4,
        "translation_fraction": 0.0, "contrast_min": 0.75, "contrast_max": 1.25, "contrast_probability": 0.15,
        "gamma_min": 0.7, "gamma_max": 1.5, "gamma_probability": 0.3,
    },
}  # fmt: skip


def train_peer(name: str, config: Config, store: Store, labelled: Sequence[str]) -> tuple[Segmenter, HuScale]:
    """Random weights trained on the labelled cases by the recipe of another project.

    Raises ValueError if MONAI, whose own loss is taken, is not installed.
    """
    config = settings.with_settings(config, finetune=PEERS[name])
    plan, steps = config.finetune, int(config.finetune.steps_per_epoch or 0)
    slices = training_slices(config, store, labelled)
    start = initial_segmenter(config, store, None, torch.device("cpu"), class_frequencies(slices))
    parameters = start.model.parameters()
    optimizer: torch.optim.Optimizer
    if name == "MONAI":
        loss_of = _monai_loss()
        optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=steps)
    else:
        loss_of = _dice_and_cross_entropy
        optimizer = torch.optim.SGD(
            parameters, lr=plan.learning_rate, momentum=0.99, nesterov=True, weight_decay=plan.weight_decay
        )
        cycle = None
    sampler, side = SliceSampler(slices, config), store.image_size
    swap = mirror_labels(store.structures, store.left_right_pairs)
    start.model.train()
    for step in range(steps):
        batch = sampler.of_step(step, 0, 1)
        draw = draw_whole_slices(len(batch), plan, side, generator(config.seed, "fine-tuning views", step, 0))
        images = render(batch.image_hu, draw, side, start.scale).contiguous(memory_format=torch.channels_last)
        if cycle is None:
            rate = warmup_polynomial(step, peak=plan.learning_rate, power=0.9, warmup_steps=0, total_steps=steps)
            set_learning_rate(optimizer, rate)
        loss = loss_of(start.model(images), render_labels(batch.label, draw, side, swap), batch.contoured)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if cycle is None:
            torch.nn.utils.clip_grad_norm_(start.model.parameters(), 12.0)  # as nnU-Net
        optimizer.step()
        if cycle is not None:
            cycle.step()
    return start.model, start.scale


def _monai_loss() -> Loss:
    """MONAI's own Dice and cross-entropy; to it, a structure that was not contoured is background."""
    try:
        from monai.losses import DiceCELoss
    except ImportError:
        raise ValueError("recipe MONAI needs the package monai: pip install 'pixelglobal[bench]'") from None
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    return lambda scores, labels, _: loss(scores, labels.unsqueeze(1))


def _dice_and_cross_entropy(scores: Tensor, labels: Tensor, contoured: Tensor) -> Tensor:
    return 2 * segmentation_loss(scores, labels, contoured, 0.5)
