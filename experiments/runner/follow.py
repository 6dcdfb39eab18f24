"""The log of a training, passed on epoch by epoch while it runs, wherever its workers are."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixelglobal.training.runs import read_metrics

SECONDS_BETWEEN_LOOKS = 1.0
NOT_METRICS = {"time", "epoch", "step", "steps_total"}


def epochs_of(lines: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One record for each epoch of a log, in which a quantity is the mean of its lines.

    A quantity that an epoch has not logged keeps its last value, so that a table of epochs has no holes.
    """
    epochs: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        epochs.setdefault(int(line.get("epoch", 0)), []).append(line)
    records, known = [], {}
    for epoch, of_epoch in epochs.items():
        names = dict.fromkeys(name for line in of_epoch for name in line if name not in NOT_METRICS)
        for name in names:
            values = [line[name] for line in of_epoch if _is_number(line.get(name))]
            if values:
                known[name] = sum(values) / len(values)
        records.append({"epoch": epoch, "step": of_epoch[-1]["step"], **known})
    return records


@contextmanager
def following(folder: Path, report: Callable[[Mapping[str, float]], object]) -> Iterator[dict[str, float]]:
    """Report every epoch of `folder/metrics.jsonl` once while the body trains; yields the last record.

    An epoch is reported when the next one has begun, and the last when the body ends. Epochs of an earlier try are
    reported first. Nothing more is reported when the body raises.
    """
    stop, last, reported = threading.Event(), {}, [0]

    def tell(records: list[dict[str, float]]) -> None:
        for record in records[reported[0] :]:
            last.update(record)
            report(dict(record))
            reported[0] += 1

    def watch() -> None:
        while not stop.wait(SECONDS_BETWEEN_LOOKS):
            tell(epochs_of(read_metrics(folder))[:-1])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield last
    finally:
        stop.set()
        watcher.join()
    tell(epochs_of(read_metrics(folder)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
