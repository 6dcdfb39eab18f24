"""What a training loop needs of the world around it: a folder, a place among the workers, and when to keep its state.

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

from pixelglobal.training.checkpoints import newest_intact_state, training_states


class TrainingStopped(RuntimeError):
    """A training that must not go on, such as one whose loss is not finite; trying again would end alike."""


class Run(Protocol):
    """The folder and the workers of one training. Every worker calls every function equally often."""

    folder: Path
    rank: int
    world_size: int

    def latest_checkpoint(self) -> Path | None:
        """The folder of the newest intact training state, the same for all workers; None at the first start."""
        ...

    def checkpoint_is_due(self) -> bool:
        """Whether the state should be kept now, which all workers are told alike."""
        ...

    def kept(self, metrics: Mapping[str, Any]) -> None:
        """To be called when rank 0 has written the state of a step into the folder that `state_folder` names."""
        ...


def state_folder(run: Run, step: int) -> Path:
    """Where the training state after so many steps belongs."""
    return run.folder / "checkpoints" / f"step_{step:08d}"


class LocalRun:
    """A run in this process, which keeps its state every few minutes and at the end; the newest few states stay."""

    rank = 0
    world_size = 1

    def __init__(self, folder: Path, checkpoints_to_keep: int = 2, checkpoint_minutes: float = 15.0) -> None:
        self.folder = folder
        self._keep, self._seconds, self._since = checkpoints_to_keep, 60 * checkpoint_minutes, time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    def latest_checkpoint(self) -> Path | None:
        """The newest state whose files are as they were written; a damaged one is warned of."""
        return newest_intact_state(self.folder / "checkpoints")

    def checkpoint_is_due(self) -> bool:
        """Whether the minutes have passed since the last state was kept."""
        return time.monotonic() - self._since >= self._seconds

    def kept(self, metrics: Mapping[str, Any]) -> None:  # noqa: ARG002 (a cluster shows them)
        """Remove the states before the newest few, and what killed processes have left."""
        kept = self.folder / "checkpoints"
        for old in [*training_states(kept)[: -self._keep], *kept.glob(".partial-*")]:
            shutil.rmtree(old)
        self._since = time.monotonic()


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
