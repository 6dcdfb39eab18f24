"""What the workers of one training exchange: gradients, means, sums and the decisions of the first one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def averaging_gradients(model: nn.Module, world_size: int, *, synchronize_batch_norms: bool = False) -> nn.Module:
    """The model, wrapped so that a backward pass averages its gradients if there are several workers."""
    if world_size == 1:
        return model
    if synchronize_batch_norms:
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(model)


def synchronizes_batch_norms(wanted: bool | None, world_size: int, device: torch.device) -> bool:
    """Whether batch norms see the slices of all workers: as `cluster.sync_batch_norm` says, by default with CUDA.

    Raises ValueError where it is wanted of several workers without CUDA, for which PyTorch has it not.
    """
    if wanted and world_size > 1 and device.type != "cuda":
        raise ValueError(
            f"cluster.sync_batch_norm=true with workers on {device.type}: PyTorch synchronises batch norms on CUDA "
            "alone. Leave it out, and give each worker 8 slices or more"
        )
    return world_size > 1 and (device.type == "cuda" if wanted is None else wanted)


def average_buffers(module: nn.Module, world_size: int) -> None:
    """Replace buffers, such as the running averages of batch norms, by their means over the workers; all must call it.

    What is kept is then what all workers have seen, and a resumed worker has what it had.
    """
    if world_size == 1:
        return
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    means = torch.cat([buffer.flatten() for buffer in buffers])
    torch.distributed.all_reduce(means)
    for buffer, mean in zip(buffers, (means / world_size).split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def value_of_the_first_worker(value: T, world_size: int) -> T:
    """What worker 0 has, on every worker; all must call it."""
    shared = [value]
    if world_size > 1:
        torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def sum_over_workers(values: torch.Tensor) -> None:
    """Replace a tensor by its sum over the workers, in place; all must call it."""
    torch.distributed.all_reduce(values)


def mean_over_workers(values: Mapping[str, float], world_size: int) -> dict[str, float]:
    """The mean of each value over the workers that have it: a worker may lack a term, and none waits for it.

    Every worker must call it equally often. NaN counts as lacking.
    """
    parts: list[Any] = [dict(values)]
    if world_size > 1:
        parts = [None] * world_size
        torch.distributed.all_gather_object(parts, dict(values))
    means = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        known = [part[name] for part in parts if name in part and not math.isnan(part[name])]
        means[name] = sum(known) / len(known) if known else math.nan
    return means
