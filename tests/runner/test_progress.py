"""Progress: what a stage is doing, what is left and how long it takes are read from the stage folders alone."""

import io
import json
import os
import socket
import time

import pytest
from rich.console import Console

from experiments.runner import progress
from experiments.runner.pipeline import pipeline_of
from experiments.runner.progress import best_dice, counts, minutes, overview, seconds_left, shown, state_of
from experiments.runner.stages import working_on
from experiments.studies import STUDIES


@pytest.fixture
def pipelines(tiny, store, tmp_path):
    """random and full, of which nothing is done."""
    return [pipeline_of(run, tmp_path) for run in STUDIES["comparison"].runs(tiny, [store], seeds=[0])]


def finish(stage, seconds):
    with working_on(stage):
        pass
    mark = stage.folder / "done.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"seconds": seconds}))


def begin(stage, *lines):
    """As if this process worked on it."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    (stage.folder / "lock.json").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    (stage.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def text_of(renderable):
    console = Console(width=200, record=True, force_terminal=False)
    console.print(renderable)
    return console.export_text()


def test_a_stage_says_what_it_is_doing(pipelines):
    random, full = pipelines
    assert state_of(full.pretrain) == ("waiting", 0.0)
    begin(full.pretrain)
    assert state_of(full.pretrain) == ("starting", 0.0)
    begin(full.evaluate)
    assert state_of(full.evaluate) == ("evaluating", 0.0)
    begin(full.finetune, {"step": 2, "steps_total": 6, "loss": 0.5, "validation_dice": 0.25})
    assert state_of(full.finetune) == ("step 3 of 6, loss 0.500, DSC 25.0", 0.5)
    (random.finetune.folder).mkdir(parents=True)
    (random.finetune.folder / "error.txt").write_text("ValueError: no")
    assert state_of(random.finetune) == ("failed", 1.0)
    finish(random.evaluate, 7.4)
    assert state_of(random.evaluate) == ("done in 7 s", 1.0)


def test_what_is_left_is_estimated_from_what_has_finished(pipelines):
    random, full = pipelines
    guess = progress.GUESSED_SECONDS
    assert seconds_left(pipelines, 1) == guess["pretrain"] + 2 * (guess["finetune"] + guess["evaluate"])
    finish(random.finetune, 100.0)
    finish(random.evaluate, 10.0)
    assert seconds_left(pipelines, 1) == guess["pretrain"] + 100 + 10
    begin(full.pretrain, {"step": 4, "steps_total": 10, "loss": 1.0})
    assert seconds_left(pipelines, 1) == pytest.approx(guess["pretrain"] / 2 + 110)
    assert seconds_left(pipelines, 2) == pytest.approx(guess["pretrain"] / 2 + 55)  # fine-tunings share the machine


def test_a_stage_that_runs_share_is_left_once(tiny, store, tmp_path):
    runs = [run for name in ("comparison", "ablation") for run in STUDIES[name].runs(tiny, [store], seeds=[0])]
    full = [pipeline_of(run, tmp_path) for run in runs if run.method == "full"]
    assert len(full) == 2
    assert seconds_left(full, 1) == seconds_left(full[:1], 1)


def test_every_run_is_counted_once(pipelines):
    random, full = pipelines
    assert counts(pipelines).startswith("0 of 2 runs done, 0 running, 0 failed, 2 waiting; about ")
    begin(full.pretrain)
    assert "0 of 2 runs done, 1 running, 0 failed, 1 waiting" in counts(pipelines)
    random.finetune.folder.mkdir(parents=True)
    (random.finetune.folder / "error.txt").write_text("ValueError: no")
    assert "0 of 2 runs done, 1 running, 1 failed, 0 waiting" in counts(pipelines)
    finish(random.evaluate, 1.0)
    assert "1 of 2 runs done, 1 running, 0 failed, 0 waiting" in counts(pipelines)


def test_the_overview_has_a_line_for_each_run_with_its_best_validation(pipelines):
    _, full = pipelines
    assert best_dice(full) == ""
    begin(full.finetune, *({"step": i, "steps_total": 9, "loss": 1, "validation_dice": d} for i, d in enumerate(
        (0.1, 0.625, None, 0.5))))  # fmt: skip
    assert best_dice(full) == "62.5"
    table = text_of(overview(pipelines[:1]))
    assert "run " in table
    assert "comparison-random-phantom-seed0" in table
    assert "waiting" in table


def test_many_runs_leave_room_failed_ones_come_first_and_names_are_whole(tiny, store, tmp_path):
    runs = STUDIES["comparison"].runs(tiny, [store], seeds=range(45))
    pipelines = [pipeline_of(run, tmp_path) for run in runs]
    last = pipelines[-1]
    last.finetune.folder.mkdir(parents=True)
    (last.finetune.folder / "error.txt").write_text("ValueError: no")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(overview(pipelines, 20))
    lines = console.export_text().splitlines()
    assert lines[1].split() == [last.run.name, "fine-tuning:", "failed"]
    assert len(lines) == 21  # a head and the 20 lines that there is room for
    assert lines[-1].split() == ["and", "71", "more", "0", "done,", "71", "waiting", "or", "running"]


def test_without_a_terminal_single_lines_say_what_runs(pipelines, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    begin(pipelines[1].pretrain, {"step": 0, "steps_total": 4, "loss": 2.0})
    console = Console(width=200, record=True, force_terminal=False)
    with shown(pipelines, console, 1):
        time.sleep(0.5)
    lines = console.export_text().splitlines()
    assert lines
    assert "comparison-full-phantom-seed0 pretrain step 1 of 4, loss 2.000" in lines[0]
    assert "0:00 elapsed, about " in lines[0]
    time.sleep(0.2)
    assert console.export_text(clear=False).count("elapsed") <= len(lines)  # nothing more once the body has ended


def test_times_are_minutes_and_seconds():
    assert [minutes(s) for s in (0, 59.9, 61, 3600)] == ["0:00", "0:59", "1:01", "60:00"]
