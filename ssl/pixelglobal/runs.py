"""What a training loop needs of the world around it: slices in, metrics and checkpoints out.

The loops know only the two protocols of this file. On a laptop they get a `LocalRun` and a `store.LocalStream`; on a
cluster, `cluster/` gives them the same through Ray.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from pixelglobal.slices import SliceBatch


class Stream(Protocol):
    """An endless supply of slices, epoch by epoch."""

    n_slices: int

    def epoch(self, epoch: int) -> Iterator[SliceBatch]:
        """The batches of an epoch on this worker, a function of the seed and the epoch."""
        ...


class Run(Protocol):
    """The folder and the workers of one training."""

    folder: Path
    rank: int
    world_size: int

    def latest_checkpoint(self) -> Path | None:
        """The folder of the last complete training state, None at the first start."""
        ...

    def report(self, metrics: Mapping[str, Any], checkpoint: Path | None) -> None:
        """Keep an epoch's metrics (with "epoch") and, on rank 0, its state. Every worker must call it equally often."""
        ...


class LocalRun:
    """A run in this process: checkpoints under `folder/checkpoints/epoch_0007`, the newest few kept."""

    rank = 0
    world_size = 1

    def __init__(self, folder: Path, checkpoints_to_keep: int = 2) -> None:
        self.folder = folder
        self._keep = checkpoints_to_keep
        folder.mkdir(parents=True, exist_ok=True)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("epoch_*"))

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint folder, if there is one."""
        existing = self._checkpoints()
        return existing[-1] if existing else None

    def report(self, metrics: Mapping[str, Any], checkpoint: Path | None) -> None:
        """Move the state into place under its epoch and drop the oldest."""
        if checkpoint is None:
            return
        final = self.folder / "checkpoints" / f"epoch_{int(metrics['epoch']):04d}"
        final.parent.mkdir(exist_ok=True)
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.move(checkpoint, partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in self._checkpoints()[: -self._keep]:
            shutil.rmtree(old)


def append_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Add one JSON object to `metrics.jsonl` of a run folder."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**line, "time": round(time.time(), 3)}) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; after a resume the newest line of a step counts, a torn one is skipped."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # the process was killed while it wrote this line
        key = (line.get("stage"), line.get("kind"), line.get("step"))
        lines.pop(key, None)
        lines[key] = line
    return list(lines.values())


AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on the device; nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST_DTYPE[precision])


def place(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device in the memory layout its convolutions run fastest in."""
    return module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def default_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads of torch, if one is asked for."""
    if threads:
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def value_of_the_first_worker(value: float, world_size: int) -> float:
    """What worker 0 has, on every worker; all must call it."""
    shared = [value]
    if world_size > 1:
        torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


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
