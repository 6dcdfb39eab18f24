"""A run in this process: checkpoints appear whole, the newest few are kept, and metrics survive a kill."""

import json

import pytest

from pixelglobal.training.runs import LocalRun, append_metrics, read_metrics


@pytest.fixture
def state(tmp_path):
    """A function that makes a checkpoint folder somewhere else."""

    def make(content):
        folder = tmp_path / "elsewhere" / "state"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(content)
        return folder

    return make


def test_the_newest_checkpoints_are_kept_and_the_last_is_found(tmp_path, state):
    run = LocalRun(tmp_path / "run", checkpoints_to_keep=2)
    assert run.latest_checkpoint() is None
    for epoch in range(4):
        made = state(str(epoch))
        run.report({"epoch": epoch}, made)
        assert not list(made.iterdir())  # moved, not copied
        made.rmdir()
    assert [path.name for path in sorted((tmp_path / "run/checkpoints").iterdir())] == ["epoch_0002", "epoch_0003"]
    assert (run.latest_checkpoint() / "state.json").read_text() == "3"
    run.report({"epoch": 3}, state("again"))
    assert (run.latest_checkpoint() / "state.json").read_text() == "again"


def test_what_a_killed_process_left_is_no_checkpoint_and_goes_with_the_next(tmp_path, state):
    run = LocalRun(tmp_path / "run")
    run.report({"epoch": 0}, state("good"))
    left = tmp_path / "run/checkpoints/.partial-0123abcd-epoch_0001"
    left.mkdir()
    (left / "state.json").write_text("ha")
    assert run.latest_checkpoint().name == "epoch_0000"
    (tmp_path / "elsewhere/state").rmdir()
    run.report({"epoch": 1}, state("better"))
    assert [path.name for path in sorted((tmp_path / "run/checkpoints").iterdir())] == ["epoch_0000", "epoch_0001"]


def test_metrics_skip_a_torn_line_and_keep_the_newest_of_a_step(tmp_path):
    for step, loss in ((1, 3.0), (2, 2.0), (2, 1.0)):
        append_metrics(tmp_path, {"stage": "pretrain", "step": step, "loss": loss})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "pretrain", "step": 3})[:-4])
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 3.0), (2, 1.0)]
    assert read_metrics(tmp_path / "nowhere") == []
