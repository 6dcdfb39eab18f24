"""Trainings on Ray whose processes are really killed end as those that nothing happened to, to the last bit."""

import os
import signal
import threading
import time

import psutil
import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.cluster import resources
from pixelglobal.cluster.train import run_finetune, run_pretrain
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.runs import read_metrics

WORKER, CONTROLLER = "RayTrainWorker", "TrainController"  # as Ray names their processes
CLOCKS = {"seconds", "seconds_per_step", "slices_per_second", "data_wait", "time"}


def on(config, workers, **cluster):
    """The config for so many workers, which keep a state at every opportunity and may die once between two states."""
    shared = {"pretrain_workers": workers, "finetune_workers": workers, "cpus_per_worker": 0.5, "threads_per_worker": 1}
    return settings.with_settings(config, cluster={**shared, "checkpoint_minutes": 0, "max_failures": 1, **cluster})


def results(folder):
    lines = [{key: value for key, value in line.items() if key not in CLOCKS} for line in read_metrics(folder)]
    return lines, read_model(folder / "model")[0]


def assert_same(folder, other):
    (lines, tensors), (other_lines, other_tensors) = results(folder), results(other)
    assert lines == other_lines
    assert tensors.keys() == other_tensors.keys()
    assert all(torch.equal(tensors[key], other_tensors[key]) for key in tensors)


class Killer(threading.Thread):
    """Kills a process of this test's Ray as soon as a run has logged a step or epoch, one after the other."""

    def __init__(self, folder, plan, unit="step"):
        super().__init__(daemon=True)
        self.folder, self.plan, self.unit, self.killed = folder, plan, unit, []

    def run(self):
        for moment, word in self.plan:
            while not any(line[self.unit] >= moment for line in read_metrics(self.folder)):
                time.sleep(0.01)
            while not (found := [p for p in psutil.Process().children(recursive=True) if word in command_of(p)]):
                time.sleep(0.01)
            for process in found:
                os.kill(process.pid, signal.SIGKILL)
                self.killed.append((word, process.pid))


def command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def pretrained_and_killed(config, store, tmp_path, plan):
    """Pre-train in `calm` without Ray, and in `killed` with these kills; returns what was killed."""
    run_pretrain(on(config, 0), store.root, tmp_path / "calm")
    killer = Killer(tmp_path / "killed", plan)
    killer.start()
    run_pretrain(on(config, 1), store.root, tmp_path / "killed")
    return [word for word, _ in killer.killed]


@pytest.mark.cluster
def test_a_pre_training_whose_workers_and_controller_are_killed(ray_on_two_cpus, tiny, store, tmp_path):
    """In mid-epoch, three times; what it equals is a run that Ray has not seen."""
    config = settings.with_settings(tiny, pretrain={"epochs": 2, "steps_per_epoch": 20})
    killed = pretrained_and_killed(config, store, tmp_path, [(3, WORKER), (13, CONTROLLER), (27, WORKER)])
    assert killed == [WORKER, CONTROLLER, WORKER]
    assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("method", ["pixel_global", "byol", "dino", "gl"])
def test_a_pre_training_killed_at_twenty_steps(ray_on_two_cpus, tiny, store, tmp_path, method):
    config = settings.with_settings(tiny, pretrain={"method": method, "epochs": 2, "steps_per_epoch": 60})
    moments = sorted(torch.randperm(115, generator=torch.Generator().manual_seed(0))[:5].tolist())
    killed = pretrained_and_killed(config, store, tmp_path, [(moment, WORKER) for moment in moments])
    assert killed == [WORKER] * len(moments)
    assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.cluster
def test_a_fine_tuning_whose_worker_is_killed(ray_on_two_cpus, tiny, store, tmp_path):
    config = settings.with_settings(tiny, finetune={"epochs": 5, "steps_per_epoch": 4})
    cases = {"train_cases": store.splits.train, "validation_cases": store.splits.validation, "pretrained": None}
    run_finetune(on(config, 0), store.root, tmp_path / "calm", **cases)
    killer = Killer(tmp_path / "killed", [(1, WORKER)], unit="epoch")
    killer.start()
    run_finetune(on(config, 1), store.root, tmp_path / "killed", **cases)
    assert killer.killed
    assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.cluster
def test_what_another_try_cannot_help_is_tried_once(ray_on_two_cpus, tiny, store, tmp_path):
    bad = on(settings.with_settings(tiny, pretrain={"learning_rate": 1e30, "gradient_clip": 0}), 1, max_failures=50)
    with pytest.raises(
        RuntimeError, match=r"(?s)worker 0 of 1 failed.*the (loss|gradient) is not finite at step \d+.*Slices of this"
    ):
        run_pretrain(bad, store.root, tmp_path / "run")
    assert not (tmp_path / "run/model").exists()


def test_a_gpu_that_cuda_cannot_use_is_no_silent_training_on_the_cpu(monkeypatch):
    monkeypatch.setattr(resources.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(resources.ray, "get_gpu_ids", lambda: [3])
    monkeypatch.setattr(resources.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"Ray gave GPU 3 of .* cannot use it; .*or set cluster\.gpus_per_worker=0"):
        resources.require_usable_gpu()
    monkeypatch.setattr(resources.ray, "get_gpu_ids", list)
    resources.require_usable_gpu()
