"""A training's log is passed on epoch by epoch: nothing twice, nothing lost, the last epoch too."""

import json
import time

import pytest

from experiments.runner import follow
from experiments.runner.follow import epochs_of, following


def write(folder, *lines):
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_an_epoch_is_the_mean_of_its_lines_and_keeps_what_it_did_not_log():
    lines = [{"epoch": 0, "step": 0, "loss": 1.0, "dice": 0.5}, {"epoch": 0, "step": 1, "loss": 2.0},
             {"epoch": 1, "step": 2, "loss": float("nan")}, {"epoch": 1, "step": 3, "loss": 4.0}]  # fmt: skip
    assert epochs_of(lines) == [
        {"epoch": 0, "step": 1, "loss": 1.5, "dice": 0.5},
        {"epoch": 1, "step": 3, "loss": 4.0, "dice": 0.5},
    ]


def test_every_epoch_is_reported_once_while_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "SECONDS_BETWEEN_LOOKS", 0.01)
    seen = []
    write(tmp_path, {"epoch": 0, "step": 0, "loss": 1.0})  # of an earlier try
    with following(tmp_path, seen.append) as last:
        write(tmp_path, {"epoch": 1, "step": 1, "loss": 0.5})
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [record["epoch"] for record in seen] == [0]  # epoch 1 may have more lines
        write(tmp_path, {"epoch": 1, "step": 2, "loss": 0.3})
    assert [record["epoch"] for record in seen] == [0, 1]
    assert last == {"epoch": 1, "step": 2, "loss": 0.4}


def test_a_training_that_fails_ends_the_reports(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "SECONDS_BETWEEN_LOOKS", 0.01)
    seen = []

    def train():
        with following(tmp_path, seen.append):
            write(tmp_path, {"epoch": 0, "step": 0, "loss": 1.0})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        train()
    assert seen == []
