"""What the workers of one training exchange: gradients, means, sums and the decisions of the first one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def averaging_gradients(model: nn.Module, world_size: int) -> nn.Module:
    """The model, wrapped so that a backward pass averages its gradients if there are several workers."""
    return DistributedDataParallel(model) if world_size > 1 else model


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
