"""The plain loops on workers of Ray Train: two share the work, an interrupted run continues, bad ones fail early."""

import json

import pandas as pd
import pytest
import ray
import torch
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pixelglobal import config as settings
from pixelglobal.cluster import train
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.runs import read_metrics


def with_workers(config, **cluster):
    values = {"pretrain_workers": 1, "cpus_per_worker": 0.5, "threads_per_worker": 1, "max_failures": 0, **cluster}
    return settings.with_settings(config, cluster=values)


def epochs(folder):
    return [(line["epoch"], line["step"]) for line in map(json.loads, (folder / "metrics.jsonl").open())]


def weights(folder):
    return torch.cat([t.flatten() for t in read_model(folder)[0].values()])


@pytest.mark.cluster
def test_two_workers_pretrain_as_one(ray_on_two_cpus, tiny, store, tmp_path):
    """Also: the same command in the same folder continues with the next epoch."""
    config = with_workers(settings.with_settings(tiny, pretrain={"epochs": 1, "batch_size": 16}), pretrain_workers=2)
    folder = tmp_path / "run"
    model = train.run_pretrain(config, store.root, folder)
    assert epochs(folder) == [(0, 0), (0, 1), (0, 2)]
    facts = read_model(model)[1]
    assert set(facts["cases_seen"]) == set(store.splits.pretrain)
    before = weights(model)

    longer = settings.with_settings(config, pretrain={"epochs": 2})
    train.run_pretrain(longer, store.root, folder)
    assert epochs(folder) == [(e, 3 * e + i) for e in (0, 1) for i in range(3)]
    assert not torch.equal(before, weights(model))


@pytest.mark.cluster
def test_two_workers_finetune(ray_on_two_cpus, tiny, store, tmp_path):
    config = with_workers(settings.with_settings(tiny, finetune={"epochs": 2}), finetune_workers=2)
    model = train.run_finetune(
        config,
        store.root,
        tmp_path / "run",
        pretrained=None,
        train_cases=store.splits.train,
        validation_cases=store.splits.validation,
    )
    assert [line["epoch"] for line in read_metrics(tmp_path / "run")] == [0, 1]
    assert read_model(model)[1]["best_epoch"] in (0, 1)

    own = placement_group([{"CPU": 0.1}])  # all that the driver has, as in a trial of Tune
    strategy = PlacementGroupSchedulingStrategy(own, placement_group_capture_child_tasks=True)
    driver = ray.remote(train.run_evaluate).options(num_cpus=0.1, scheduling_strategy=strategy)
    answer = driver.remote(config, store.root, model, tmp_path, cases=store.splits.test, columns={"seed": 7})
    rows = pd.read_parquet(ray.get(answer, timeout=120))
    assert set(rows["case"]) == set(store.splits.test)
    assert set(rows["seed"]) == {7}
    with pytest.raises(ValueError, match="was trained on"):
        ray.get(driver.remote(config, store.root, model, tmp_path / "no", cases=store.splits.train, columns={}))


def test_few_slices_for_the_batch_norms_of_a_worker_are_refused(tiny):
    of_four = with_workers(settings.with_settings(tiny, pretrain={"batch_size": 8}), pretrain_workers=2)
    with pytest.raises(ValueError, match=r"leaves 4 slices for the batch norms.*pretrain\.batch_size=16"):
        train._require_vectors_for_batch_norm(of_four, gpus=0)
    train._require_vectors_for_batch_norm(of_four, gpus=1)  # which see the slices of all workers
    alone = settings.with_settings(of_four, cluster={"sync_batch_norm": False})
    with pytest.raises(ValueError, match="leaves 4 slices"):
        train._require_vectors_for_batch_norm(alone, gpus=1)
    train._require_vectors_for_batch_norm(settings.with_settings(of_four, pretrain={"batch_size": 16}), gpus=0)


def test_no_worker_is_the_plain_loop_without_ray(tiny, store, tmp_path):
    model = train.run_pretrain(with_workers(tiny, pretrain_workers=0), store.root, tmp_path / "run")
    assert len(epochs(tmp_path / "run")) == 6
    assert (tmp_path / "run/checkpoints/step_00000006").is_dir()
    assert read_model(model)[1]["kind"] == "pretrained"


def test_a_batch_that_cannot_be_shared_is_refused_before_any_worker_starts(tiny, store, tmp_path):
    config = with_workers(tiny, pretrain_workers=3)
    with pytest.raises(ValueError, match=r"pretrain\.batch_size=4 over cluster\.pretrain_workers=3 .*batch_size=6"):
        train.run_pretrain(config, store.root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_a_worker_cannot_see_is_named(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"elsewhere is not visible on .*; choose an output folder on storage"):
        train.TrainRun(tmp_path / "elsewhere", tiny)
