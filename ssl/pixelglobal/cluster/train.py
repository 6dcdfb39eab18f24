"""The plain training loops on the workers of Ray Train.

Each loop runs unchanged on every worker; this file gives it its slices (Ray Data), its place among the workers, and
checkpoints that go through `ray.train.report`. With 0 workers the same loop runs right here, without Ray.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import torch
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from pixelglobal.cluster.resources import gpus_each
from pixelglobal.cluster.stream import RayStream, slice_dataset
from pixelglobal.config.overrides import from_dict
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.data.stream import LocalStream
from pixelglobal.devices import default_device, use_threads
from pixelglobal.evaluation.evaluate import evaluate
from pixelglobal.evaluation.pseudo_labels import pseudo_labelled
from pixelglobal.training.finetune import finetune
from pixelglobal.training.pretrain import pretrain, pretraining_cases
from pixelglobal.training.runs import LocalRun


class TrainRun:
    """The run of a Ray Train worker: the shared folder, and checkpoints through `ray.train.report`."""

    def __init__(self, folder: Path) -> None:
        context = ray.train.get_context()
        self.folder = folder
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        if not folder.is_dir():  # the driver has made it; this node may have joined after the driver looked
            raise ValueError(_not_shared(folder, socket.gethostname()))

    def latest_checkpoint(self) -> Path | None:
        """The last registered training state, where it lies in the shared folder.

        Ray's `to_directory` would copy it into one folder for all workers of a machine; a worker that maps the file
        while another copies anew dies of a bus error.
        """
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else Path(checkpoint.path)

    def report(self, metrics: Mapping[str, Any], checkpoint: Path | None) -> None:
        """Hand an epoch's metrics and state to Ray Train; waits for all workers."""
        state = None if checkpoint is None else ray.train.Checkpoint.from_directory(str(checkpoint))
        ray.train.report(dict(metrics), checkpoint=state, checkpoint_dir_name=f"epoch_{int(metrics['epoch']):04d}")


def run_pretrain(config: Config, store_root: Path, folder: Path) -> Path:
    """Pre-train into a run folder on `cluster.pretrain_workers` workers; returns the exported model's folder.

    The same call in the same folder continues an interrupted run.
    """
    store = Store.open(store_root)
    if config.cluster.pretrain_workers == 0:
        use_threads(config.cluster.threads_per_worker)
        cases = pretraining_cases(config, store)
        stream = LocalStream(store, cases, batch_size=config.pretrain.batch_size, seed=config.pretraining_seed)
        run = LocalRun(folder, config.pretrain.checkpoints_to_keep)
        return pretrain(config, store, stream, run, default_device())
    _share(config.pretrain.batch_size, config.cluster.pretrain_workers)
    _require_shared(folder)
    work = {
        "config": config.model_dump(mode="json"),
        "store": str(store.root.resolve()),
        "folder": str(folder.resolve()),
    }
    kept = [int(path.name.removeprefix("epoch_")) for path in (folder / "train" / "pretrain").glob("epoch_*")]
    first_epoch = max(kept, default=-1) + 1
    dataset = slice_dataset(
        store, pretraining_cases(config, store), seed=config.pretraining_seed, first_epoch=first_epoch
    )
    _fit(_pretrain_worker, work, config, folder, "pretrain", config.cluster.pretrain_workers, {"train": dataset})
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
) -> Path:
    """Fine-tune into a run folder on `cluster.finetune_workers` workers; returns the best model's folder.

    teacher: the fine-tuned model that labels `finetune.pseudo_labels` slices of unlabelled patients for this one.
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
    }
    if config.cluster.finetune_workers == 0:
        use_threads(config.cluster.threads_per_worker)
        return _finetune(work, LocalRun(folder), default_device())
    _require_shared(folder)
    _fit(_finetune_worker, work, config, folder, "finetune", config.cluster.finetune_workers, None)
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
    config, store = from_dict(work["config"]), Store.open(work["store"])
    _prepare_worker(config)
    run = TrainRun(Path(work["folder"]))
    stream = RayStream(
        ray.train.get_dataset_shard("train"),
        n_slices=store.n_slices(pretraining_cases(config, store)),
        batch_size=_share(config.pretrain.batch_size, run.world_size),
        buffer_slices=config.cluster.shuffle_buffer_slices,
        seed=config.pretraining_seed,
        rank=run.rank,
    )
    pretrain(config, store, stream, run, get_device())


def _finetune_worker(work: dict[str, Any]) -> None:
    _prepare_worker(from_dict(work["config"]))
    _finetune(work, TrainRun(Path(work["folder"])), get_device())


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
    )


def _fit(loop: Any, work: dict[str, Any], config: Config, folder: Path, name: str, workers: int, datasets: Any) -> None:
    """One TorchTrainer; the same name and folder let Ray Train continue where it stopped."""
    cluster = config.cluster
    resources, gpus = {"CPU": cluster.cpus_per_worker}, gpus_each(config, ray.cluster_resources())
    if gpus:
        resources["GPU"] = gpus
    execution = ray.data.ExecutionOptions(preserve_order=True)
    trainer = TorchTrainer(
        loop,
        train_loop_config=work,
        datasets=datasets,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        dataset_config=DataConfig(execution_options=execution),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name=name,
            storage_path=str((folder / "train").resolve()),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=config.pretrain.checkpoints_to_keep),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        rank, failure = min(error.worker_failures.items())
        raise RuntimeError(f"worker {rank} of {workers} failed:\n{failure}") from None  # Ray's own text is cut short


def _prepare_worker(config: Config) -> None:
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
