"""Calibration: the cost of a stage comes from doing a little of it, and grows with the steps that it stands for."""

from dataclasses import replace

import pytest

from experiments.runner import calibration
from experiments.runner.calibration import WORKER_START_SECONDS, measure
from experiments.runner.pipeline import pipeline_of
from experiments.studies import STUDIES
from pixelglobal import config as settings


def full(config, store, out):
    [run] = STUDIES["comparison"].runs(config, [store], seeds=[0], methods=["full"])
    return pipeline_of(run, out)


def test_a_pretraining_is_measured_by_a_few_of_its_steps(tiny, store, tmp_path):
    once = full(settings.with_settings(tiny, pretrain={"epochs": 500, "steps_per_epoch": 40}), store, tmp_path)
    costs = measure(once, once.pretrain)
    assert list(costs) == ["pretrain"]
    cost = costs["pretrain"]
    step = float(cost.known_from.removeprefix("3 steps of ").removesuffix(" s"))
    assert cost.seconds == pytest.approx(500 * 40 * step, rel=0.01)
    assert cost.memory_mib > 50
    assert cost.disk_mib > 0.1
    assert not list(tmp_path.iterdir())  # what was tried is gone


def test_a_fine_tuning_and_its_evaluation_are_measured_together(tiny, store, tmp_path):
    config = settings.with_settings(tiny, finetune={"epochs": 900, "steps_per_epoch": 30})
    costs = measure(full(config, store, tmp_path), full(config, store, tmp_path).finetune)
    assert set(costs) == {"finetune", "evaluate"}
    step = float(costs["finetune"].known_from.removeprefix("2 steps of ").partition(" ")[0])
    assert costs["finetune"].seconds >= 0.99 * 900 * 30 * step  # and the validations
    case = float(costs["evaluate"].known_from.removeprefix("one case in ").removesuffix(" s"))
    assert costs["evaluate"].seconds == pytest.approx(len(store.splits.test) * case, rel=0.01)
    assert costs["evaluate"].disk_mib > 0
    assert not list(tmp_path.iterdir())


def test_workers_take_a_while_to_start(tiny, store, tmp_path, monkeypatch):
    """Each has its share of the batch; the start of a TorchTrainer is added once."""
    batches = []
    train = calibration.pretrain

    def watched(config, *rest):
        batches.append(config.pretrain.batch_size)
        return train(config, *rest)

    monkeypatch.setattr(calibration, "pretrain", watched)
    config = settings.with_settings(tiny, pretrain={"batch_size": 8, "epochs": 1, "steps_per_epoch": 1})
    workers = settings.with_settings(config, cluster={"pretrain_workers": 2})
    alone, two = (full(c, store, tmp_path) for c in (config, workers))
    assert measure(alone, alone.pretrain)["pretrain"].seconds < WORKER_START_SECONDS
    assert measure(two, two.pretrain)["pretrain"].seconds > WORKER_START_SECONDS
    assert batches == [8, 4]


def test_a_measurement_reads_a_few_cases_however_many_there_are(tiny, store, tmp_path, monkeypatch):
    config = settings.with_settings(tiny, finetune={"patients": None, "steps_per_epoch": None})
    labelled = (*store.splits.train, *store.splits.validation[1:], *store.splits.test[1:])
    once, read, read_case = replace(full(config, store, tmp_path), train_cases=labelled), set(), type(store).read_case
    monkeypatch.setattr(type(store), "read_case", lambda store, case: read.add(case) or read_case(store, case))
    measure(once, once.finetune)
    assert read == {*once.train_cases[:2], store.splits.validation[0], store.splits.test[0]}
    assert len(labelled) > 2
