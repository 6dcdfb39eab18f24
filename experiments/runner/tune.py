"""Runs on Ray Tune: which stages are missing, what fits on the cluster at once, and what became of each run.

Two rounds: first the distinct pre-trainings, then each run's fine-tuning and evaluation. A trial that trains on
several workers is only a driver without a CPU of its own, pinned to the head node; one that trains alone holds the CPU
or GPU it uses. So nothing waits for something that holds what it waits for, on two cores as on a hundred nodes.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune

from experiments import FOLDER
from experiments.runner.execution import finetune_and_evaluate_once, pretrain_once
from experiments.runner.follow import following
from experiments.runner.pipeline import Pipeline, pipeline_of
from experiments.studies.study import StudyRun
from experiments.studies.verdict import average_of_run
from pixelglobal.cluster.resources import gpus_each, start_ray, trials_at_once
from pixelglobal.config.overrides import from_dict
from pixelglobal.data.store import Store
from pixelglobal.training.runs import TrainingStopped


def run_all(runs: Sequence[StudyRun], out: Path) -> list[Pipeline]:
    """Do what is missing of every run, each stage once; a failed run stops no other (see `Pipeline.error`).

    Ray must be running (`start_ray`). Raises ValueError at once if the cluster can never give what a run asks for.
    """
    pipelines = [pipeline_of(run, out) for run in runs]
    first = {p.pretrain.name: p for p in pipelines if p.pretrain is not None and not p.pretrain.is_complete}
    errors = _Round("pretrain", _pretrain_trial, runs[0].config.cluster.pretrain_workers).do(first, runs[0], out)
    second = {p.evaluate.name: p for p in pipelines if not p.evaluate.is_complete}
    ready = {name: p for name, p in second.items() if p.pretrain is None or p.pretrain.is_complete}
    errors |= _Round("finetune", _finish_trial, runs[0].config.cluster.finetune_workers).do(ready, runs[0], out)
    for pipeline in pipelines:
        left = [stage for stage in pipeline.stages if not stage.is_complete]
        if pipeline.run.name in errors and left and pipeline.error() is None:  # its process died and could not say why
            stage = left[0]
            stage.folder.mkdir(parents=True, exist_ok=True)
            (stage.folder / "error.txt").write_text(errors[pipeline.run.name])
    return pipelines


def _work(pipeline: Pipeline, out: Path) -> dict[str, Any]:
    run = pipeline.run
    return {
        "name": run.name,
        "study": run.study,
        "method": run.method,
        "seed": run.config.seed,
        "cohort": run.cohort,
        "part": run.part,
        "pretrained": run.pretrained,
        "config": run.config.model_dump(mode="json"),
        "store": str(run.store.root.resolve()),
        "pool": [str(store.root.resolve()) for store in run.pool],
        "test_store": str(run.test_store.root.resolve()) if run.test_store else None,
        "out": str(out.resolve()),
    }


def _opened(work: dict[str, Any]) -> Pipeline:
    run = StudyRun(
        work["study"],
        work["method"],
        from_dict(work["config"]),
        work["pretrained"],
        Store.open(work["store"]),
        work["cohort"],
        work["part"],
        pool=tuple(Store.open(root) for root in work["pool"]),
        test_store=Store.open(work["test_store"]) if work["test_store"] else None,
    )
    return pipeline_of(run, Path(work["out"]))


def _tried_again_if_it_helps(trial: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Tune tries a trial that raises again. ValueError says what is wrong with settings or files, TrainingStopped what
    is wrong with a training; both would only come again: the stage keeps it in error.txt, and the trial ends, with
    failed=1 in its results."""

    @functools.wraps(trial)
    def run(space: dict[str, Any]) -> None:
        try:
            trial(space)
        except (ValueError, TrainingStopped) as error:
            tune.report({"failed": 1, "why": str(error)})

    return run


@_tried_again_if_it_helps
def _pretrain_trial(space: dict[str, Any]) -> None:
    """One Tune trial of the first round."""
    pipeline = _opened(space["run"])
    assert pipeline.pretrain is not None
    with following(pipeline.pretrain.folder, _report_epoch) as last:
        pretrain_once(pipeline)
    tune.report({**last, "seconds": pipeline.pretrain.seconds, "test_dice": math.nan})


@_tried_again_if_it_helps
def _finish_trial(space: dict[str, Any]) -> None:
    """One Tune trial of the second round: fine-tune, then evaluate."""
    pipeline = _opened(space["run"])
    with following(pipeline.finetune.folder, _report_epoch) as last:
        finetune_and_evaluate_once(pipeline, Path(space["run"]["out"]))
    seconds = pipeline.finetune.seconds + pipeline.evaluate.seconds
    tune.report({**last, "seconds": seconds, "test_dice": _test_dice(pipeline)})


def _report_epoch(metrics: Mapping[str, float]) -> None:
    """An epoch as a result of the trial; progress.csv has the columns of the first one, so it has those of the end."""
    tune.report({**metrics, "seconds": math.nan, "test_dice": math.nan})


def _test_dice(pipeline: Pipeline) -> float:
    """The average 3-D Dice as tables print it, as a fraction."""
    return average_of_run(pd.read_parquet(pipeline.rows)) / 100


@dataclass(frozen=True)
class _Round:
    """Trials of one kind that run side by side."""

    name: str
    trial: Callable[[dict[str, Any]], None]
    workers: int  # of each trial; 0 trains in the trial itself

    def do(self, stages: Mapping[str, Pipeline], any_run: StudyRun, out: Path) -> dict[str, str]:
        """Do these stages of these pipelines; returns the errors of those that failed, by the name of their run.

        any_run: of the study, whose cluster settings all its runs share.
        """
        if not stages:
            return {}
        config, available = any_run.config, start_ray([FOLDER])
        gpus = gpus_each(config, available)
        works = [_work(pipeline, out) | {"stage": name} for name, pipeline in stages.items()]
        for work in works:  # an autoscaler's GPUs are not there yet when a trial looks
            work["config"]["cluster"]["gpus_per_worker"] = gpus
        resources = {"cpu": config.cluster.cpus_per_worker, "gpu": gpus}
        if self.workers > 0:  # the driver of a TorchTrainer: no CPU of its own, on the head node
            resources = {"node:__internal_head__": 0.001}
        tuner = tune.Tuner(
            tune.with_resources(self.trial, resources),
            param_space={"run": tune.grid_search(works)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=trials_at_once(config, self.workers, available),
                reuse_actors=True,  # a trial need not wait for a new process that imports torch
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=f"{any_run.study}-{self.name}-{time.strftime('%Y%m%d-%H%M%S')}",
                storage_path=str((out / "tune").resolve()),
                failure_config=tune.FailureConfig(max_failures=config.cluster.retries_per_run),
                verbose=0,
            ),
        )
        results = tuner.fit()
        ended = [results[i] for i in range(len(results))]
        reasons = {str(r.config["run"]["name"]): r.error or (r.metrics or {}).get("why") for r in ended if r.config}
        return {name: str(reason) for name, reason in reasons.items() if reason}


def _trial_name(trial: Any) -> str:
    return str(trial.config["run"]["name"])
