"""Optimisers, learning-rate schedules and the number of steps that these are spread over."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from timm.optim.lars import Lars
from torch import nn

from pixelglobal.config.schema import Finetune, Pretrain


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights with decay; biases and normalisation parameters (one dimension) without, as in BYOL, DINO and SimCLR."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def pretraining_optimizer(module: nn.Module, config: Pretrain) -> torch.optim.Optimizer:
    """The optimiser of pre-training; LARS adapts only the group that is decayed (trust coefficient 0.001)."""
    groups = parameter_groups(module, config.weight_decay)
    if config.optimizer == "lars":
        # timm's Lars adapts groups with weight decay; a decay of exactly 0 would turn it into plain SGD.
        groups[0]["weight_decay"] = max(config.weight_decay, 1e-12)
        return Lars(groups, lr=config.learning_rate, momentum=config.momentum, trust_coeff=0.001)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, foreach=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate, foreach=True)


def finetuning_optimizer(model: nn.Module, transferred: Iterable[nn.Module], config: Finetune) -> torch.optim.Optimizer:
    """The optimiser of fine-tuning; what was transferred learns at `pretrained_learning_rate_factor` of the rate."""
    old = {id(p) for module in transferred for p in module.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in old], "factor": config.pretrained_learning_rate_factor},
        {"params": [p for p in model.parameters() if id(p) not in old], "factor": 1.0},
    ]
    optimizer = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return optimizer(groups, lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True)


def steps_per_epoch(config: Pretrain | Finetune, n_slices: int) -> int:
    """Optimiser steps of an epoch: as many as the config says, else one pass over the slices, and at least one.

    >>> steps_per_epoch(Pretrain(batch_size=4), 11), steps_per_epoch(Pretrain(batch_size=4, steps_per_epoch=7), 11)
    (2, 7)
    """
    return config.steps_per_epoch or max(1, n_slices // config.batch_size)


def warmup_cosine(step: int, *, peak: float, warmup_steps: float, total_steps: int) -> float:
    """Learning rate of a step: linear from 0 to `peak` over the warm-up, then half a cosine to 0.

    >>> [round(warmup_cosine(s, peak=1.0, warmup_steps=2, total_steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return peak * min(1.0, (step + 1) / warmup_steps)
    progress = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_polynomial(step: int, *, peak: float, power: float, warmup_steps: float, total_steps: int) -> float:
    """Learning rate of a step: linear from 0 to `peak` over the warm-up, then (1 - progress) ** power of it, down to 0.

    >>> [warmup_polynomial(s, peak=1.0, power=1.0, warmup_steps=2, total_steps=6) for s in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return peak * min(1.0, (step + 1) / warmup_steps)
    progress = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    return float(peak * max(0.0, 1 - progress) ** power)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate, times its own `factor` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
