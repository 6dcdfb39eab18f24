"""A study whose driver is killed, or that two drivers run at once, ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support import TINY

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["--preset", "smoke", *TINY, "pretrain.epochs=6", "finetune.epochs=4"]
pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def start(store, out, seeds="0,1"):
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "ssl"), str(ROOT)])
    command = [sys.executable, "-m", "experiments", "run", "comparison", "--store", str(store.root), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--seeds", seeds, *WORDS],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process):
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed


def rows(out):
    table = pd.read_parquet(out / "comparison/rows.parquet")
    return table.sort_values([*table.columns[:3], "case", "slice_index", "structure"]).reset_index(drop=True)


def marks(out):
    return {path: path.stat().st_mtime_ns for path in out.glob("stages/*/done.json")}


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """An uninterrupted run: its folder, its rows, and how long it took."""
    out, began = tmp_path_factory.mktemp("whole") / "out", time.monotonic()
    finished(start(store, out))
    return out, rows(out), time.monotonic() - began


@pytest.mark.parametrize("moment", np.random.default_rng(0).uniform(0.2, 0.95, 3).round(2))
def test_a_killed_driver_s_study_goes_on(store, whole, tmp_path, moment):
    _, expected, seconds = whole
    out = tmp_path / "out"
    process = start(store, out)
    time.sleep(moment * seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(5)  # until Ray's processes, which live by the driver, are gone
    before = marks(out)
    finished(start(store, out))
    pd.testing.assert_frame_equal(rows(out), expected)
    assert {path: marks(out)[path] for path in before} == before


def test_two_drivers_share_one_folder(store, whole, tmp_path):
    out = tmp_path / "out"
    drivers = [start(store, out), start(store, out)]
    for driver in drivers:
        finished(driver)
    pd.testing.assert_frame_equal(rows(out), whole[1])
    for log in out.glob("stages/*/metrics.jsonl"):
        steps = [line.split('"step": ')[1].split(",")[0] for line in log.read_text().splitlines()]
        assert len(set(steps)) == len(steps), f"{log} was written by two"


def test_another_seed_runs_its_own_runs_alone(store, whole):
    out, expected, _ = whole
    before, trials = marks(out), set(out.glob("tune/*/comparison-*"))
    finished(start(store, out, seeds="0,1,2"))
    assert {path: marks(out)[path] for path in before} == before
    assert len(marks(out)) == len(before) + 5  # a pre-training, two fine-tunings, two evaluations
    added = set(out.glob("tune/*/comparison-*")) - trials
    assert {path.name.rsplit("-", 1)[1] for path in added} == {"seed2"}
    again = rows(out)
    pd.testing.assert_frame_equal(again[again["seed"] < 2].reset_index(drop=True), expected)
