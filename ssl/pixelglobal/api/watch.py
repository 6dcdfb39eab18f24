"""What a training that runs elsewhere, in this process or on workers, is doing: one line, from its metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from pixelglobal.training.runs import read_metrics

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 30.0  # where nothing can be overwritten, as in a log file
LINES_FOR_SPEED = 20


def state_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """Step, loss, validation, waiting for data and the time that is left, as far as the metrics say it.

    >>> first = {"step": 80, "steps_total": 400, "loss": 1.5, "validation_dice": 0.4, "time": 100.0}
    >>> state_of([first, first | {"step": 160, "loss": 1.25, "validation_dice": 0.35, "time": 140.0}])
    'step 160 of 400, loss 1.25, validation Dice 0.35 (best 0.4), 2 min 0 s left'
    """
    steps = [line for line in lines if "steps_total" in line]
    if not steps:
        return "reading the slices"
    last, before = steps[-1], steps[-LINES_FOR_SPEED:][0]
    parts = [f"step {last['step']} of {last['steps_total']}", f"loss {last['loss']:.4g}"]
    if validated := [line["validation_dice"] for line in steps if "validation_dice" in line]:
        parts.append(f"validation Dice {validated[-1]:.4g} (best {max(validated):.4g})")
    if "data_wait" in last:
        parts.append(f"{last['data_wait']:.0%} of the time waiting for data")
    if last["step"] > before["step"]:
        seconds = (last["time"] - before["time"]) / (last["step"] - before["step"])
        parts.append(f"{_duration(seconds * (last['steps_total'] - last['step']))} left")
    return ", ".join(parts)


@contextmanager
def watching(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Show the state of the run in a folder while the `with` block trains: overwritten on a terminal and in a notebook,
    else in lines. wanted: if False, show nothing."""
    if not wanted:
        yield
        return
    console, stop = Console(), threading.Event()

    def show_lines() -> None:
        said = ""
        while not stop.wait(SECONDS_BETWEEN_LINES):
            state = state_of(read_metrics(folder))
            if state != said:
                console.print(state, highlight=False, soft_wrap=True)
            said = state

    def overwrite() -> None:
        with console.status("starting") as status:
            while not stop.wait(SECONDS_BETWEEN_LOOKS):
                status.update(state_of(read_metrics(folder)))

    thread = threading.Thread(
        target=overwrite if console.is_terminal or console.is_jupyter else show_lines, daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _duration(seconds: float) -> str:
    """
    >>> _duration(59), _duration(3700)
    ('59 s', '1 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
