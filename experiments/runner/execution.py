"""The stages of one pipeline, done here or on workers of Ray Train; each at most once, whoever asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.runner.pipeline import Pipeline
from experiments.runner.results import publish
from experiments.runner.stages import working_on
from pixelglobal.cluster.train import run_evaluate, run_finetune, run_pretrain
from pixelglobal.devices import use_threads


def pretrain_once(pipeline: Pipeline) -> None:
    """Pre-train, unless it is done; a run from random initialisation has nothing to do."""
    if pipeline.pretrain is None:
        return
    with working_on(pipeline.pretrain) as needed:
        if needed:
            run_pretrain(pipeline.run.config, pipeline.run.pretraining_roots, pipeline.pretrain.folder)


def finetune_and_evaluate_once(pipeline: Pipeline, out: Path) -> None:
    """Fine-tune and evaluate, unless it is done, and publish the rows."""
    run, config, store = pipeline.run, pipeline.run.config, pipeline.run.store
    use_threads(config.cluster.threads_per_worker or max(1, int(config.cluster.cpus_per_worker)))
    work: dict[str, Any] = {
        "pretrained": pipeline.pretrain.folder / "model" if pipeline.pretrain else None,
        "train_cases": pipeline.train_cases,
        "validation_cases": store.splits.validation,
        "pool": run.pretraining_roots,
    }
    if pipeline.teacher is not None:
        with working_on(pipeline.teacher) as needed:
            if needed:
                run_finetune(config, store.root, pipeline.teacher.folder, **work)
        work["teacher"] = pipeline.teacher.folder / "model"
    with working_on(pipeline.finetune) as needed:
        if needed:
            run_finetune(config, store.root, pipeline.finetune.folder, **work)
    with working_on(pipeline.evaluate) as needed:
        if needed:
            run_evaluate(
                config,
                run.tested.root,
                pipeline.finetune.folder / "model",
                pipeline.evaluate.folder,
                cases=getattr(run.tested.splits, config.evaluate.split),
                columns={
                    "method": run.method,
                    "seed": config.seed,
                    "stage": pipeline.evaluate.name,
                    "labelled_patients": pipeline.labelled_patients,
                },
            )
    publish([pipeline], out)
