"""Batch norms: passes that leave their running averages alone, and whether they are those of all workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def is_synchronized(module: nn.Module) -> bool:
    """Whether the statistics of its batch norms are those of all workers."""
    return any(isinstance(m, nn.SyncBatchNorm) for m in module.modules())


@contextmanager
def frozen_batch_norm_buffers(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms in train mode use batch statistics but leave their running averages untouched."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class RestoredBatchNormBuffers:
    """Afterwards running averages are what they were before: for a pass that is only computed again, perhaps twice."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __enter__(self) -> None:
        self._before = [(buffer, buffer.clone()) for buffer in self._module.buffers()]

    def __exit__(self, *_: object) -> None:
        for buffer, value in self._before:
            buffer.copy_(value)
