"""What a running study is doing and how long is left, read from the stage folders while Ray works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.runner.pipeline import Pipeline
from experiments.runner.stages import Stage
from pixelglobal.training.runs import read_metrics

SECONDS_BETWEEN_LOOKS = 2.0


LINES_BESIDE = 4  # of the live view, for its head, the time left and names that are folded


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


def seconds_left(pipelines: Sequence[Pipeline], at_once: int) -> float:
    """An estimate from the stages that have finished, shared among the runs that run at the same time."""
    stages = {stage.name: stage for pipeline in pipelines for stage in pipeline.stages}
    known: dict[str, list[float]] = {}
    for stage in stages.values():
        if stage.is_complete:
            known.setdefault(stage.kind, []).append(stage.seconds)
    usual = {kind: sum(s) / len(s) for kind, s in known.items()}
    left = dict.fromkeys(GUESSED_SECONDS, 0.0)
    for stage in stages.values():
        left[stage.kind] += (1 - state_of(stage)[1]) * usual.get(stage.kind, GUESSED_SECONDS[stage.kind])
    return left["pretrain"] + (left["finetune"] + left["evaluate"]) / max(1, at_once)


def overview(pipelines: Sequence[Pipeline], most: int | None = None) -> Table:
    """What every run is doing, and the best validation Dice that its fine-tuning has reached; failed runs first.

    most: lines that there is room for; the runs beyond them, which wait or are done, are counted in the last one. Names
    are folded, never cut.
    """
    states = {pipeline.run.name: {words: state_of(s)[0] for words, s in (
        ("pre-training", pipeline.pretrain), ("fine-tuning", pipeline.finetune), ("evaluation", pipeline.evaluate))
        if s is not None} for pipeline in pipelines}  # fmt: skip
    ordered = sorted(pipelines, key=lambda pipeline: _urgency(list(states[pipeline.run.name].values())))
    shown_ones = ordered if most is None or len(ordered) <= most else ordered[: max(1, most - 1)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "state", "best"):
        table.add_column(column, overflow="fold")
    for pipeline in shown_ones:
        table.add_row(pipeline.run.name, _doing(states[pipeline.run.name]), best_dice(pipeline))
    if rest := [states[pipeline.run.name] for pipeline in ordered[len(shown_ones) :]]:
        done = sum(of_run["evaluation"].startswith("done") for of_run in rest)
        table.add_row(f"and {len(rest)} more", f"{done} done, {len(rest) - done} waiting or running", "")
    return table


def _doing(states: Mapping[str, str]) -> str:
    """The stage that failed, else the first that is not done, and what it does; "waiting" before a run begins."""
    for stage, words in states.items():
        if words == "failed":
            return f"{stage}: failed"
    for place, (stage, words) in enumerate(states.items()):
        if not words.startswith("done"):
            return words if words == "waiting" and place == 0 else f"{stage}: {words}"
    return "done"


def _urgency(states: Sequence[str]) -> int:
    """Failed runs before those that run, these before those that wait, and what is done last."""
    if "failed" in states:
        return 0
    if states[-1].startswith("done"):
        return 3
    return 1 if any(not state.startswith(("waiting", "done", "none")) for state in states) else 2


def best_dice(pipeline: Pipeline) -> str:
    """The best validation DSC in % so far, as text; empty before the first validation."""
    values = [v for line in read_metrics(pipeline.finetune.folder) if (v := line.get("validation_dice")) is not None]
    return f"{max(values) * 100:.1f}" if values else ""


def counts(pipelines: Sequence[Pipeline]) -> str:
    """How many runs are done, running, failed and left, and the time left if as many as now run side by side."""
    done = sum(pipeline.evaluate.is_complete for pipeline in pipelines)
    failed = sum(not pipeline.evaluate.is_complete and pipeline.error() is not None for pipeline in pipelines)
    running = sum(any(stage.is_running for stage in pipeline.stages) for pipeline in pipelines)
    left = minutes(seconds_left(pipelines, max(1, running)))
    waiting = max(0, len(pipelines) - done - failed - running)
    return (
        f"{done} of {len(pipelines)} runs done, {running} running, {failed} failed, {waiting} waiting; "
        f"about {left} left"
    )


@contextmanager
def shown(pipelines: Sequence[Pipeline], console: Console, at_once: int) -> Iterator[None]:
    """Show the state of every run while the body runs; single lines now and then if this is no terminal."""
    stop, began = threading.Event(), time.monotonic()

    def table() -> Group:
        room = max(3, console.height - LINES_BESIDE)  # so that the time left is always in sight
        return Group(overview(pipelines, room), Text(clock(began, seconds_left(pipelines, at_once)), style="bold"))

    def watch() -> None:
        if console.is_terminal:
            with Live(table(), console=console, refresh_per_second=2) as live:
                while not stop.wait(SECONDS_BETWEEN_LOOKS):
                    live.update(table())
                live.update(table())
            return
        while not stop.wait(SECONDS_BETWEEN_LINES):
            running: dict[str, str] = {}  # a stage that several runs share is named once
            for pipeline in pipelines:
                for stage in pipeline.stages:
                    if (words := state_of(stage)[0]).startswith(("step", "eval")):
                        running.setdefault(stage.name, f"{pipeline.run.name} {stage.kind} {words}")
            line = "; ".join(running.values()) or "starting workers"
            console.print(f"{clock(began, seconds_left(pipelines, at_once))}: {line}", soft_wrap=True, highlight=False)

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
