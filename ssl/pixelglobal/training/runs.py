"""What a training loop needs of the world around it: slices in, metrics and checkpoints out.

The loops know only `Run` and `data.stream.Stream`. On one machine they get a `LocalRun` and a `LocalStream`; on a
cluster, `pixelglobal.cluster` gives them the same through Ray.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pixelglobal.files import write_folder


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
        kept = self.folder / "checkpoints"
        with write_folder(kept / f"epoch_{int(metrics['epoch']):04d}") as scratch:
            for file in checkpoint.iterdir():
                shutil.move(file, scratch)
        for old in [*self._checkpoints()[: -self._keep], *kept.glob(".partial-*")]:  # the latter of killed processes
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
