"""What a stage costs on this machine, from doing a little of it: a few real steps, one case of validation and of test.

A worker is measured alone, with its share of the batch and its CPU threads; the learning curve of a run, and so early
stopping, cannot be foreseen: fine-tuning is counted to its last epoch.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.runner.pipeline import Pipeline
from experiments.runner.stages import Stage
from pixelglobal.config.overrides import with_settings
from pixelglobal.config.schema import Config
from pixelglobal.devices import default_device, use_threads
from pixelglobal.evaluation.evaluate import evaluate
from pixelglobal.training.finetune import finetune
from pixelglobal.training.labelled import count_training_slices
from pixelglobal.training.optim import steps_per_epoch
from pixelglobal.training.pretrain import pretrain, pretraining_cases
from pixelglobal.training.pretraining_stream import pretraining_stream
from pixelglobal.training.runs import LocalRun, read_metrics

STEPS = 4  # of a measured pre-training; the first one, which allocates, is not counted


WORKER_START_SECONDS = 20.0  # of a TorchTrainer: placement, processes, process group


@dataclass(frozen=True)
class Cost:
    """What one stage takes: seconds on its workers, memory of a worker and disk it keeps, in MiB; how that is known."""

    seconds: float
    memory_mib: float
    disk_mib: float
    known_from: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def measure(pipeline: Pipeline, stage: Stage) -> dict[str, Cost]:
    """The cost of a stage by its kind; a fine-tuning and its evaluation are measured together."""
    cluster = pipeline.run.config.cluster
    use_threads(cluster.threads_per_worker or max(1, int(cluster.cpus_per_worker)))
    with tempfile.TemporaryDirectory() as folder:
        if stage.kind == "pretrain":
            return {"pretrain": _pretraining(pipeline, Path(folder))}
        return _finetuning_and_evaluation(pipeline, Path(folder))


def _pretraining(pipeline: Pipeline, folder: Path) -> Cost:
    config, scans = pipeline.run.config, pipeline.run.scans
    settings, workers = config.pretrain, max(1, config.cluster.pretrain_workers)
    cases = pretraining_cases(config, scans)
    epoch_steps = steps_per_epoch(settings, scans.n_slices(cases))
    share = max(2, settings.batch_size // workers // 2 * 2)
    little = {"epochs": 1, "steps_per_epoch": STEPS, "log_every_steps": 1, "measure_every_steps": 0}
    short = with_settings(config, pretrain={**little, "batch_size": share})
    stream = pretraining_stream(short, scans)
    pretrain(short, scans, stream, LocalRun(folder), default_device())
    step = statistics.median(line["seconds_per_step"] for line in read_metrics(folder)[1:])
    return Cost(
        settings.epochs * epoch_steps * step + _start(config.cluster.pretrain_workers),
        _memory_mib(),
        _mib(folder / "model"),
        f"{STEPS - 1} steps of {step:.3g} s",
    )


def _finetuning_and_evaluation(pipeline: Pipeline, folder: Path) -> dict[str, Cost]:
    config, store = pipeline.run.config, pipeline.run.store
    settings, device = config.finetune, default_device()
    epoch_steps = steps_per_epoch(settings, count_training_slices(config, store, pipeline.train_cases))
    little = {"epochs": 3, "steps_per_epoch": 2, "validate_every_epochs": 3, "patience_epochs": 3}
    short: Config = with_settings(config, finetune=little)
    model = finetune(
        short, store, LocalRun(folder / "finetune"), device, pretrained=None, train_cases=pipeline.train_cases[:2],
        validation_cases=store.splits.validation[:1], normalized_by=pipeline.run.scans,
    )  # fmt: skip
    lines = read_metrics(folder / "finetune")
    step = lines[1]["seconds"] / 2
    validation = max(0.0, lines[2]["seconds"] - 2 * step) * len(store.splits.validation)
    validations = math.ceil(settings.epochs / settings.validate_every_epochs)
    disk = _mib(folder / "finetune" / "model")
    test_store = pipeline.run.tested
    tested = getattr(test_store.splits, config.evaluate.split)
    began = time.perf_counter()
    evaluate(
        config, test_store, model, folder / "evaluate", device, cases=tested[:1], columns={"method": "", "seed": 0}
    )
    case = time.perf_counter() - began
    return {
        "finetune": Cost(
            settings.epochs * epoch_steps * step + validations * validation + _start(config.cluster.finetune_workers),
            _memory_mib(),
            disk,
            f"2 steps of {step:.3g} s and one case of validation",
        ),
        "evaluate": Cost(
            len(tested) * case, _memory_mib(), len(tested) * _mib(folder / "evaluate"), f"one case in {case:.3g} s"
        ),
    }


def _start(workers: int) -> float:
    return WORKER_START_SECONDS if workers > 0 else 0.0


def _memory_mib() -> float:
    """The most that this process has had at a time: on a GPU by torch's count, else all of its resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
