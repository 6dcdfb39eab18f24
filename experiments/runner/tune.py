"""Cells on Ray Tune: which stages are missing, what fits on the cluster at once, and what became of each cell.

Two rounds: first the distinct pre-trainings, then each cell's fine-tuning and evaluation. A trial that trains on
several workers is only a driver without a CPU of its own, pinned to the head node; one that trains alone holds the CPU
or GPU it uses. So nothing waits for something that holds what it waits for, on two cores as on a hundred nodes.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from experiments.runner.publish import publish
from experiments.runner.runs import Cell, Chain, chain_of
from experiments.runner.stages import working_on
from pixelglobal.cluster.resources import start_ray, trials_at_once
from pixelglobal.cluster.train import gpus_each, run_evaluate, run_finetune, run_pretrain
from pixelglobal.config.overrides import from_dict
from pixelglobal.data.store import Store
from pixelglobal.devices import use_threads


def run_grid(cells: Sequence[Cell], out: Path) -> list[Chain]:
    """Run what is missing of every cell, each stage once; a failed cell stops no other (see `Chain.error`).

    Ray must be running (`start_ray`). Raises ValueError at once if the cluster can never give what a cell asks for.
    """
    chains = [chain_of(cell, out) for cell in cells]
    firsts = {c.pretrain.name: c for c in chains if c.pretrain is not None and not c.pretrain.is_complete}
    errors = _round(
        "pretrain",
        [{"name": c.cell.name, **_work(c, out), "stage": name} for name, c in firsts.items()],
        _pretrain_trial,
        cells[0].config.cluster.pretrain_workers,
        cells,
        out,
    )
    lasts = {c.evaluate.name: c for c in chains if not c.evaluate.is_complete}
    ready = [c for c in lasts.values() if c.pretrain is None or c.pretrain.is_complete]
    errors |= _round(
        "finetune",
        [{"name": c.cell.name, **_work(c, out), "stage": c.evaluate.name} for c in ready],
        _finish_trial,
        cells[0].config.cluster.finetune_workers,
        cells,
        out,
    )
    for chain in chains:
        left = [stage for stage in chain.stages if not stage.is_complete]
        if chain.cell.name in errors and left and chain.error() is None:  # its process died and could not say why
            stage = left[0]
            stage.folder.mkdir(parents=True, exist_ok=True)
            (stage.folder / "error.txt").write_text(errors[chain.cell.name])
    return chains


def _work(chain: Chain, out: Path) -> dict[str, Any]:
    cell = chain.cell
    return {
        "study": cell.study,
        "method": cell.method,
        "seed": cell.config.seed,
        "cohort": cell.cohort,
        "part": cell.part,
        "pretrained": cell.pretrained,
        "config": cell.config.model_dump(mode="json"),
        "store": str(cell.store.root.resolve()),
        "out": str(out.resolve()),
    }


def _opened(work: dict[str, Any]) -> Chain:
    store, config = Store.open(work["store"]), from_dict(work["config"])
    cell = Cell(work["study"], work["method"], config, work["pretrained"], store, work["cohort"], work["part"])
    return chain_of(cell, Path(work["out"]))


def _tried_again_if_it_helps(trial: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Tune tries a trial that raises again. A ValueError says what is wrong with settings or files and would only come
    again: its stage keeps it in error.txt, and the trial ends, with failed=1 in its results."""

    @functools.wraps(trial)
    def run(space: dict[str, Any]) -> None:
        try:
            trial(space)
        except ValueError as error:
            tune.report({"failed": 1, "why": str(error)})

    return run


@_tried_again_if_it_helps
def _pretrain_trial(space: dict[str, Any]) -> None:
    """One Tune trial of the first round."""
    chain = _opened(space["cell"])
    assert chain.pretrain is not None
    with working_on(chain.pretrain) as needed:
        if needed:
            run_pretrain(chain.cell.config, chain.cell.store.root, chain.pretrain.folder)
    tune.report({"seconds": chain.pretrain.seconds, **_last_metrics(chain.pretrain.folder)})


@_tried_again_if_it_helps
def _finish_trial(space: dict[str, Any]) -> None:
    """One Tune trial of the second round: fine-tune, then evaluate."""
    chain = _opened(space["cell"])
    cell, config, store = chain.cell, chain.cell.config, chain.cell.store
    use_threads(config.cluster.threads_per_worker or max(1, int(config.cluster.cpus_per_worker)))
    with working_on(chain.finetune) as needed:
        if needed:
            run_finetune(
                config,
                store.root,
                chain.finetune.folder,
                pretrained=chain.pretrain.folder / "model" if chain.pretrain else None,
                train_cases=chain.train_cases,
                validation_cases=store.splits.validation,
            )
    with working_on(chain.evaluate) as needed:
        if needed:
            run_evaluate(
                config,
                store.root,
                chain.finetune.folder / "model",
                chain.evaluate.folder,
                cases=getattr(store.splits, config.evaluate.split),
                columns={
                    "method": cell.method,
                    "seed": config.seed,
                    "stage": chain.evaluate.name,
                    "labelled_patients": chain.labelled_patients,
                },
            )
    publish([chain], Path(space["cell"]["out"]))
    seconds = chain.finetune.seconds + chain.evaluate.seconds
    tune.report({"seconds": seconds, **_last_metrics(chain.finetune.folder)})


def _last_metrics(folder: Path) -> dict[str, float]:
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return {}
    last = json.loads(path.read_text().splitlines()[-1])
    return {key: value for key, value in last.items() if isinstance(value, int | float)}


def _round(
    name: str,
    works: list[dict[str, Any]],
    trial: Callable[[dict[str, Any]], None],
    workers: int,
    cells: Sequence[Cell],
    out: Path,
) -> dict[str, str]:
    """Run trials side by side; returns the errors of those that failed, by the name of their cell."""
    if not works:
        return {}
    cluster = cells[0].config.cluster
    available = start_ray()
    concurrent = trials_at_once(cells[0].config, workers, available)
    gpus = gpus_each(cells[0].config, available)
    for work in works:  # an autoscaler's GPUs are not there yet when a trial looks
        work["config"]["cluster"]["gpus_per_worker"] = gpus
    resources = {"cpu": cluster.cpus_per_worker, "gpu": gpus}
    if workers > 0:  # the driver of a TorchTrainer: no CPU of its own, on the head node
        resources = {"node:__internal_head__": 0.001}
    tuner = tune.Tuner(
        tune.with_resources(trial, resources),
        param_space={"cell": tune.grid_search(works)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrent,
            reuse_actors=True,  # a trial need not wait for a new process that imports torch
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=f"{cells[0].study}-{name}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str((out / "tune").resolve()),
            failure_config=tune.FailureConfig(max_failures=cluster.retries_per_cell),
            verbose=0,
        ),
    )
    grid = tuner.fit()
    ended = [grid[i] for i in range(len(grid))]
    reasons = {str(r.config["cell"]["name"]): r.error or (r.metrics or {}).get("why") for r in ended if r.config}
    return {name: str(reason) for name, reason in reasons.items() if reason}


def _trial_name(trial: Any) -> str:
    return str(trial.config["cell"]["name"])
