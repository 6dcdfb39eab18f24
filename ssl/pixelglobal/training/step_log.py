"""The log of pre-training: a few steps are collected on the device, checked and written with one transfer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pixelglobal.data.slices import SliceBatch
from pixelglobal.training.runs import Run, TrainingStopped, append_metrics
from pixelglobal.training.workers import mean_over_workers


@dataclass
class StepLog:
    """Collects a few steps on the device, then checks and writes them with one transfer."""

    run: Run
    every: int
    total_steps: int
    batch_size: int
    overflow_is_skipped: bool = False  # a gradient that overflows in fp16 is no error: the scaler skips its step
    last: dict[str, Any] = field(default_factory=dict)
    _pending: list[tuple[int, dict[str, Tensor], list[str]]] = field(default_factory=list)
    _meta: dict[str, Any] = field(default_factory=dict)
    _measures: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)
    _waited: float = 0.0  # seconds for data since then

    @property
    def is_empty(self) -> bool:
        """Whether every step that was noted has been checked and written."""
        return not self._pending

    def waiting_for(self, batches: Iterator[SliceBatch]) -> Iterator[SliceBatch]:
        """The batches; the time until each is there counts as waiting for data."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._waited += time.perf_counter() - began
            yield batch

    def measured(self, measures: Mapping[str, float]) -> None:
        """Put measures into the next line."""
        self._measures.update(measures)

    def note(self, epoch: int, step: int, rate: float, terms: dict[str, Tensor], batch: SliceBatch) -> None:
        """Remember a step; every `every` steps, write the mean of the steps since the last line."""
        names = [f"{case}[{index}]" for case, index in zip(batch.case, batch.slice_index.tolist(), strict=True)]
        self._pending.append((step, {k: v.detach() for k, v in terms.items()}, names))
        self._meta = {"epoch": epoch, "step": step, "learning_rate": rate}
        if (step + 1) % self.every == 0:
            self.flush()

    def flush(self) -> None:
        """Check the steps since the last line and write their mean."""
        if not self._pending:
            return
        names = list(self._pending[0][1])
        # A term can be missing in a step without twins: its mean is over the steps that have it.
        names += [n for _, terms, _ in self._pending for n in terms if n not in names]
        table = torch.stack(
            [
                torch.stack([terms.get(n, terms["loss"].new_tensor(math.nan)).float() for n in names])
                for _, terms, _ in self._pending
            ]
        ).cpu()
        self._refuse_non_finite(table, names)
        spent = time.perf_counter() - self._since
        seconds = spent / len(self._pending)
        means = mean_over_workers(dict(zip(names, table.nanmean(0).tolist(), strict=True)), self.run.world_size)
        self.last = {
            "stage": "pretrain",
            **self._meta,
            "steps_total": self.total_steps,
            "seconds_per_step": round(seconds, 4),
            "slices_per_second": round(self.batch_size / seconds, 2),
            "data_wait": round(self._waited / spent, 4),  # the share of time that this worker waited for slices
            **{name: round(mean, 6) for name, mean in means.items()},
            **self._measures,
        }
        self._measures = {}
        if self.run.rank == 0:
            append_metrics(self.run.folder, self.last)
        self._pending.clear()
        self._since, self._waited = time.perf_counter(), 0.0

    def _refuse_non_finite(self, table: Tensor, names: list[str]) -> None:
        watched = ["loss"] if self.overflow_is_skipped else ["loss", "gradient_norm"]
        finite = {name: torch.isfinite(table[:, names.index(name)]) for name in watched if name in names}
        good = torch.stack([*finite.values()])
        if good.all():
            return
        worst = int((~good.all(0)).nonzero()[0])
        step, terms, slices = self._pending[worst]
        what = "loss" if not finite["loss"][worst] else "gradient"
        values = ", ".join(f"{n}={terms[n].item():.4g}" for n in terms)
        raise TrainingStopped(
            f"the {what} is not finite at step {step}: {values}. Slices of this batch: {', '.join(slices)}. "
            "The last checkpoint is intact; lower pretrain.learning_rate, use pretrain.precision=fp32, or look at "
            "these slices, then run the same command again"
        )
