"""What a running study is doing and how long is left, read from the stage folders while Ray works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.runner.runs import Chain
from experiments.runner.stages import Stage
from pixelglobal.training.runs import read_metrics

SECONDS_BETWEEN_LOOKS = 2.0


SECONDS_BETWEEN_LINES = 15.0  # where the output is not a terminal


GUESSED_SECONDS = {"pretrain": 75.0, "finetune": 25.0, "evaluate": 5.0}  # before any stage of a kind has finished


def state_of(stage: Stage) -> tuple[str, float]:
    """What a stage is doing in words, and the share of it that is done."""
    if stage.is_complete:
        return f"done in {stage.seconds:.0f} s", 1.0
    if (stage.folder / "error.txt").is_file():
        return "failed", 1.0
    if not stage.is_running:
        return "waiting", 0.0
    lines = read_metrics(stage.folder)
    if not lines:
        return "evaluating" if stage.kind == "evaluate" else "starting", 0.0
    last = lines[-1]
    share = min(1.0, (last["step"] + 1) / last["steps_total"])
    score = f", DSC {last['validation_dice'] * 100:.1f}" if "validation_dice" in last else ""
    return f"step {last['step'] + 1} of {last['steps_total']}, loss {last['loss']:.3f}{score}", share


def seconds_left(chains: Sequence[Chain], at_once: int) -> float:
    """An estimate from the stages that have finished, shared among the cells that run at the same time."""
    stages = {stage.name: stage for chain in chains for stage in chain.stages}
    known: dict[str, list[float]] = {}
    for stage in stages.values():
        if stage.is_complete:
            known.setdefault(stage.kind, []).append(stage.seconds)
    usual = {kind: sum(s) / len(s) for kind, s in known.items()}
    left = dict.fromkeys(GUESSED_SECONDS, 0.0)
    for stage in stages.values():
        left[stage.kind] += (1 - state_of(stage)[1]) * usual.get(stage.kind, GUESSED_SECONDS[stage.kind])
    return left["pretrain"] + (left["finetune"] + left["evaluate"]) / max(1, at_once)


def overview(chains: Sequence[Chain]) -> Table:
    """What every cell is doing, and the best validation Dice that its fine-tuning has reached."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("cell", "pre-training", "fine-tuning", "best", "evaluation"):
        table.add_column(column)
    for chain in chains:
        first, second, last = (
            state_of(s)[0] if s else "none" for s in (chain.pretrain, chain.finetune, chain.evaluate)
        )
        table.add_row(chain.cell.name, first, second, best_dice(chain), last)
    return table


def best_dice(chain: Chain) -> str:
    """The best validation DSC in % so far, as text; empty before the first validation."""
    values = [v for line in read_metrics(chain.finetune.folder) if (v := line.get("validation_dice")) is not None]
    return f"{max(values) * 100:.1f}" if values else ""


def counts(chains: Sequence[Chain]) -> str:
    """How many cells are done, running, failed and left, and the time left if as many as now run side by side."""
    done = sum(chain.evaluate.is_complete for chain in chains)
    failed = sum(not chain.evaluate.is_complete and chain.error() is not None for chain in chains)
    running = sum(any(stage.is_running for stage in chain.stages) for chain in chains)
    left = minutes(seconds_left(chains, max(1, running)))
    waiting = max(0, len(chains) - done - failed - running)
    return (
        f"{done} of {len(chains)} cells done, {running} running, {failed} failed, {waiting} waiting; about {left} left"
    )


@contextmanager
def shown(chains: Sequence[Chain], console: Console, at_once: int) -> Iterator[None]:
    """Show the state of every cell while the body runs; single lines now and then if this is no terminal."""
    stop, began = threading.Event(), time.monotonic()

    def table() -> Group:
        return Group(overview(chains), Text(clock(began, seconds_left(chains, at_once)), style="bold"))

    def watch() -> None:
        if console.is_terminal:
            with Live(table(), console=console, refresh_per_second=2) as live:
                while not stop.wait(SECONDS_BETWEEN_LOOKS):
                    live.update(table())
                live.update(table())
            return
        while not stop.wait(SECONDS_BETWEEN_LINES):
            running: dict[str, str] = {}  # a stage that several cells share is named once
            for chain in chains:
                for stage in chain.stages:
                    if (words := state_of(stage)[0]).startswith(("step", "eval")):
                        running.setdefault(stage.name, f"{chain.cell.name} {stage.kind} {words}")
            line = "; ".join(running.values()) or "starting workers"
            console.print(f"{clock(began, seconds_left(chains, at_once))}: {line}", soft_wrap=True, highlight=False)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(timeout=10)


def clock(began: float, left_seconds: float) -> str:
    """Elapsed and estimated time as minutes:seconds."""
    elapsed = time.monotonic() - began
    return f"{minutes(elapsed)} elapsed, about {minutes(left_seconds)} left"


def minutes(seconds: float) -> str:
    """Seconds as minutes:seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
