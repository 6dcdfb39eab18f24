"""The plain training loops on the workers of Ray Train.

Each loop runs unchanged on every worker; this file gives it its slices (Ray Data) and its place among the workers, and
starts it again where a worker has died. With 0 workers the same loop runs right here, without Ray.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from pixelglobal.cluster.resources import gpus_each, require_usable_gpu
from pixelglobal.cluster.stream import RayStream
from pixelglobal.config.overrides import from_dict
from pixelglobal.config.schema import Config
from pixelglobal.data.pool import Scans, pool_of
from pixelglobal.data.store import Store
from pixelglobal.devices import default_device, use_threads
from pixelglobal.evaluation.evaluate import evaluate
from pixelglobal.evaluation.pseudo_labels import pseudo_labelled
from pixelglobal.training.checkpoints import training_states
from pixelglobal.training.finetune import finetune
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.pretraining_stream import pretraining_stream
from pixelglobal.training.runs import LocalRun, TrainingStopped
from pixelglobal.training.workers import value_of_the_first_worker

FEWEST_FOR_BATCH_NORM = 8  # slices


class TrainRun(LocalRun):
    """The run of a Ray Train worker in a folder that all workers share.

    States are written there whole or not at all, so that Ray Train has nothing to copy, and a restarted worker group
    goes on from the newest even if its driver or its controller died, too.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        if not folder.is_dir():  # the driver has made it; this node may have joined after the driver looked
            raise ValueError(_not_shared(folder, socket.gethostname()))
        super().__init__(folder, config.pretrain.checkpoints_to_keep, config.cluster.checkpoint_minutes)
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self._notice: object = None

    def latest_checkpoint(self) -> Path | None:
        """The newest intact state, which the first worker chooses for all."""
        newest = super().latest_checkpoint() if self.rank == 0 else None
        return value_of_the_first_worker(newest, self.world_size)

    def checkpoint_is_due(self) -> bool:
        """Whether the minutes have passed on the first worker, or a node of a worker will soon be taken away."""
        due = value_of_the_first_worker(super().checkpoint_is_due(), self.world_size)
        notice = ray.train.get_preemption_info()  # the same on all workers
        is_new, self._notice = notice is not None and notice != self._notice, notice
        return due or is_new

    def kept(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics in Ray Train; waits for all workers."""
        ray.train.report(dict(metrics))
        if self.rank == 0:
            super().kept(metrics)


def run_pretrain(config: Config, stores: Path | Sequence[Path], folder: Path) -> Path:
    """Pre-train into a run folder on `cluster.pretrain_workers` workers; returns the exported model's folder.

    stores: the folder of a prepared cohort, or of several, whose pre-training splits are one pool. The same call in
    the same folder continues an interrupted run.
    """
    roots = [stores] if isinstance(stores, Path) else list(stores)
    scans = _scans(config, roots)
    if config.cluster.pretrain_workers == 0:
        use_threads(config.cluster.threads_per_worker)
        require_usable_gpu()
        stream = pretraining_stream(config, scans)
        return pretrain(config, scans, stream, _local_run(config, folder), default_device())
    _share(config.pretrain.batch_size, config.cluster.pretrain_workers)
    _require_vectors_for_batch_norm(config, gpus_each(config, ray.cluster_resources()))
    _require_shared(folder)
    work = {
        "config": config.model_dump(mode="json"),
        "stores": [str(root.resolve()) for root in roots],
        "folder": str(folder.resolve()),
    }
    fit_on_workers(_pretrain_worker, work, config, folder, "pretrain", config.cluster.pretrain_workers)
    return folder / "model"


def run_finetune(
    config: Config,
    store_root: Path,
    folder: Path,
    *,
    pretrained: Path | None,
    train_cases: Sequence[str],
    validation_cases: Sequence[str],
    teacher: Path | None = None,
    pool: Sequence[Path] = (),
) -> Path:
    """Fine-tune into a run folder on `cluster.finetune_workers` workers; returns the best model's folder.

    teacher: the fine-tuned model that labels `finetune.pseudo_labels` slices of unlabelled patients for this one.
    pool: the stores of the pre-training, which scale the intensities for random weights, too; none: this store alone.
    """
    workers, batch_size = config.cluster.finetune_workers, config.finetune.batch_size
    if workers > 0 and batch_size % workers:
        raise ValueError(
            f"finetune.batch_size={batch_size} cannot be shared evenly by cluster.finetune_workers={workers}; try "
            f"finetune.batch_size={workers * max(1, batch_size // workers)}"
        )
    work = {
        "config": config.model_dump(mode="json"),
        "store": str(store_root.resolve()),
        "folder": str(folder.resolve()),
        "pretrained": None if pretrained is None else str(pretrained.resolve()),
        "train_cases": list(train_cases),
        "validation_cases": list(validation_cases),
        "teacher": None if teacher is None else str(teacher.resolve()),
        "pool": [str(root.resolve()) for root in pool],
    }
    if config.cluster.finetune_workers == 0:
        use_threads(config.cluster.threads_per_worker)
        require_usable_gpu()
        return _finetune(work, _local_run(config, folder), default_device())
    _require_shared(folder)
    fit_on_workers(_finetune_worker, work, config, folder, "finetune", config.cluster.finetune_workers)
    return folder / "model"


def run_evaluate(
    config: Config,
    store_root: Path,
    model: Path,
    folder: Path,
    *,
    cases: Sequence[str],
    columns: Mapping[str, str | int],
) -> Path:
    """Evaluate into a run folder; returns the path of its rows.

    After `cluster.finetune_workers` have trained, a task with the CPUs and GPUs of one of them does it, wherever the
    cluster has them free: the process that drives the training has none of its own.
    """
    if config.cluster.finetune_workers == 0:
        return _evaluate(config, store_root, model, folder, cases, columns)
    task = ray.remote(_evaluate).options(
        num_cpus=config.cluster.cpus_per_worker,
        num_gpus=gpus_each(config, ray.cluster_resources()),
        scheduling_strategy=PlacementGroupSchedulingStrategy(None),  # type: ignore[arg-type]  # not the driver's own
    )
    return ray.get(task.remote(config, store_root.resolve(), model.resolve(), folder.resolve(), cases, columns))


def _evaluate(
    config: Config, root: Path, model: Path, folder: Path, cases: Sequence[str], columns: Mapping[str, str | int]
) -> Path:
    _prepare_worker(config)
    return evaluate(config, Store.open(root), model, folder, default_device(), cases=cases, columns=columns)


def _pretrain_worker(work: dict[str, Any]) -> None:
    config = from_dict(work["config"])
    _prepare_worker(config)
    scans = _scans(config, work["stores"])
    run = TrainRun(Path(work["folder"]), config)
    stream = pretraining_stream(config, scans, RayStream, rank=run.rank, world_size=run.world_size)
    pretrain(config, scans, stream, run, get_device())


def _finetune_worker(work: dict[str, Any]) -> None:
    config = from_dict(work["config"])
    _prepare_worker(config)
    _finetune(work, TrainRun(Path(work["folder"]), config), get_device())


def _scans(config: Config, roots: Sequence[Path | str]) -> Scans:
    """The scans of a pre-training on some stores; a single one may have no pre-training split (`pretrain.cases`)."""
    stores = [Store.open(root) for root in roots]
    return stores[0] if len(stores) == 1 else pool_of(stores, config.pretrain.source_weights)


def _finetune(work: dict[str, Any], run: LocalRun | TrainRun, device: torch.device) -> Path:
    config, store, labelled = from_dict(work["config"]), Store.open(work["store"]), work["train_cases"]
    pseudo = pseudo_labelled(config, store, Path(work["teacher"]), labelled, device) if work["teacher"] else None
    return finetune(
        config,
        store,
        run,
        device,
        pretrained=Path(work["pretrained"]) if work["pretrained"] else None,
        train_cases=labelled,
        validation_cases=work["validation_cases"],
        pseudo_labelled=pseudo,
        normalized_by=_scans(config, work["pool"]) if work["pool"] else None,
    )


def _local_run(config: Config, folder: Path) -> LocalRun:
    return LocalRun(folder, config.pretrain.checkpoints_to_keep, config.cluster.checkpoint_minutes)


def fit_on_workers(loop: Any, work: dict[str, Any], config: Config, folder: Path, name: str, workers: int) -> None:
    """Call `loop(work)` on workers of Ray Train until it ends, again where they, their node or their controller died.

    Raises RuntimeError when that has happened `cluster.max_failures` times and once more without a new state between,
    and TrainingStopped or ValueError at once if a worker raises it: another try would end alike.
    """
    failures, newest = 0, _newest(folder)
    while True:
        try:
            _trainer(loop, work, config, folder, name, workers).fit()
            return
        except (TrainingFailedError, RayActorError) as error:
            failed = dict(error.worker_failures) if isinstance(error, WorkerGroupError) else {0: error}
            for rank, failure in sorted(failed.items()):
                cause = getattr(failure, "_base_exc", failure)  # what the loop raised
                if isinstance(cause, ValueError | TrainingStopped):
                    kind = ValueError if isinstance(cause, ValueError) else TrainingStopped
                    raise kind(f"worker {rank} of {workers} failed:\n{failure}") from None
            before, newest = newest, _newest(folder)
            failures = 1 if newest != before else failures + 1
            if failures > config.cluster.max_failures:
                rank, failure = min(failed.items())
                raise RuntimeError(f"worker {rank} of {workers} failed:\n{failure}") from None  # Ray cuts its own short


def _newest(folder: Path) -> str | None:
    states = training_states(folder / "checkpoints")
    return states[-1].name if states else None


def _trainer(loop: Any, work: dict[str, Any], config: Config, folder: Path, name: str, workers: int) -> TorchTrainer:
    resources, gpus = {"CPU": config.cluster.cpus_per_worker}, gpus_each(config, ray.cluster_resources())
    if gpus:
        resources["GPU"] = gpus
    return TorchTrainer(
        loop,
        train_loop_config=work,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name=name,
            storage_path=str((folder / "train").resolve()),
            failure_config=FailureConfig(max_failures=0),  # `fit_on_workers` knows which failures are worth another try
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
        ),
    )


def _prepare_worker(config: Config) -> None:
    require_usable_gpu()
    use_threads(config.cluster.threads_per_worker or max(1, int(config.cluster.cpus_per_worker)))


def _share(batch_size: int, workers: int) -> int:
    share, rest = divmod(batch_size, workers)
    if rest or share < 2 or share % 2:
        better = 2 * workers * max(1, share // 2)
        raise ValueError(
            f"pretrain.batch_size={batch_size} over cluster.pretrain_workers={workers} gives {batch_size / workers:g} "
            f"slices a worker; each needs the same even number, so try pretrain.batch_size={better}"
        )
    return share


def _require_vectors_for_batch_norm(config: Config, gpus: float) -> None:
    """The global head has one vector for each slice: statistics of a few of them are noise."""
    workers, batch_size = config.cluster.pretrain_workers, config.pretrain.batch_size
    synchronized = config.cluster.sync_batch_norm is not False and gpus > 0
    if workers > 1 and not synchronized and batch_size // workers < FEWEST_FOR_BATCH_NORM:
        raise ValueError(
            f"pretrain.batch_size={batch_size} over cluster.pretrain_workers={workers} leaves {batch_size // workers} "
            f"slices for the batch norms of each worker; at least {FEWEST_FOR_BATCH_NORM} are expected. Use fewer "
            f"workers, pretrain.batch_size={FEWEST_FOR_BATCH_NORM * workers}, or workers with GPUs and "
            "cluster.sync_batch_norm=true"
        )


def _require_shared(folder: Path) -> None:
    """Fail now, not after an hour, if a node of the cluster cannot see what is written into the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe.{os.getpid()}"
    probe.write_text("written by the driver")

    @ray.remote(num_cpus=0)
    def seen(path: str) -> tuple[str, bool]:
        return socket.gethostname(), Path(path).is_file()

    path = str(probe.resolve())
    nodes = [NodeAffinitySchedulingStrategy(n["NodeID"], soft=True) for n in ray.nodes() if n["Alive"]]
    try:
        for host, sees in ray.get([seen.options(scheduling_strategy=node).remote(path) for node in nodes]):
            if not sees:
                raise ValueError(_not_shared(folder, host))
    finally:
        probe.unlink(missing_ok=True)


def _not_shared(folder: Path, host: str) -> str:
    return (
        f"{folder} is not visible on {host}; choose an output folder on storage that all machines of the cluster share "
        "(NFS, EFS, FSx)"
    )
