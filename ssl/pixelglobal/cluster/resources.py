"""Ray: its start, what the cluster has, and how many trainings fit on it at once."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sysconfig
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch

from pixelglobal.config.schema import Config

LIBRARY = Path(__file__).resolve().parents[1]  # the package pixelglobal


def trials_at_once(config: Config, workers: int, available: dict[str, float]) -> int:
    """How many trials fit on the cluster together, Ray Data's share left free.

    Raises ValueError if not even one fits, with what is asked for and what there is.
    """
    cluster, count = config.cluster, max(1, workers)
    data = cluster.data_cpus if workers > 0 else 0.0
    cpus, gpus, each = available.get("CPU", 0.0), available.get("GPU", 0.0), gpus_each(config, available)
    fitting = math.floor((cpus - data) / (count * cluster.cpus_per_worker) + 1e-9)
    if each:
        fitting = min(fitting, math.floor(gpus / (count * each) + 1e-9))
    if fitting < 1:
        raise ValueError(
            f"one training needs {count} x {cluster.cpus_per_worker:g} CPUs and {count} x {each:g} "
            f"GPUs, and {data:g} CPUs must stay free for Ray Data; the cluster has {cpus:g} CPUs and {gpus:g} GPUs. "
            "Lower cluster.pretrain_workers, cluster.cpus_per_worker or cluster.gpus_per_worker, or add nodes"
        )
    return fitting


def gpus_each(config: Config, available: Mapping[str, float]) -> float:
    """GPUs of one worker: what the config says, else one where there are any."""
    asked = config.cluster.gpus_per_worker
    return asked if asked is not None else float(available.get("GPU", 0.0) >= 1)


def require_usable_gpu() -> None:
    """Raise ValueError if Ray gave this process a GPU that CUDA cannot use: on a CPU the training would take weeks."""
    given = ray.get_gpu_ids() if ray.is_initialized() else []
    if given and not torch.cuda.is_available():
        raise ValueError(
            f"Ray gave GPU {given[0]} of {socket.gethostname()} to this training, but PyTorch {torch.__version__} "
            f"(CUDA {torch.version.cuda}) cannot use it; install a driver and a PyTorch that fit together, which "
            "`nvidia-smi` and `pixelglobal doctor` show, or set cluster.gpus_per_worker=0 to train on the CPU"
        )


def start_ray(packages: Sequence[Path] = ()) -> dict[str, float]:
    """Join the cluster of RAY_ADDRESS (as in a submitted job), or start Ray on this machine; nothing if it runs.

    packages: folders of Python packages that the workers must find beside this library.
    Returns what the cluster has or, with an autoscaler, can grow to.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's banners, which verbose=0 leaves on
        _init_patiently(
            address=None if os.environ.get("RAY_ADDRESS") else "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": worker_variables(os.environ, packages)},
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
    return what_can_be_had(ray.cluster_resources(), _most_of_the_autoscaler())


def _most_of_the_autoscaler() -> Mapping[str, float] | None:
    """All that the autoscaler of the cluster may start; None if there is no autoscaler.

    Ray 2.60 has no public call for this. Ray Train and Ray Data read the same private state, so it will not vanish
    unnoticed; in a Ray that has moved it, only the nodes that run are counted.
    """
    try:
        from ray._private.state import state

        most: Mapping[str, float] | None = state.get_max_resources_from_cluster_config()
    except (ImportError, AttributeError):
        warnings.warn(
            f"Ray {ray.__version__} does not say what its autoscaler may start: only nodes that run already count. "
            "Install the Ray of constraints.txt, or start the workers first (min_workers in cluster.yaml)",
            stacklevel=3,
        )
        return None
    return most


def _init_patiently(tries: int = 4, **options: Any) -> None:
    """ray.init; a busy machine may need longer than the 30 s that Ray gives its own processes to start."""
    for left in reversed(range(tries)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            if left == 0 or "timed out during startup" not in str(error):
                raise


def resources_without_starting(packages: Sequence[Path] = ()) -> dict[str, float]:
    """What the cluster of RAY_ADDRESS has, else this machine; nothing is started. `packages` as in `start_ray`."""
    if os.environ.get("RAY_ADDRESS") or ray.is_initialized():
        return start_ray(packages)
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def worker_variables(environ: Mapping[str, str], packages: Sequence[Path] = ()) -> dict[str, str]:
    """What every worker gets in its environment, less what the submitted job sets itself (Ray refuses both).

    PYTHONPATH leads to this library and to other packages where this process has them from. In a job they lie in the
    working directory, of which Ray gives every node a copy and starts its workers there: so they are found by their
    place in it as well. What is installed in site-packages must be installed on the workers, too.
    """
    folders = [package.resolve().parent for package in (LIBRARY, *packages)]
    roots = [folder for folder in dict.fromkeys(folders) if folder != Path(sysconfig.get_path("purelib")).resolve()]
    paths = [str(root) for root in roots]
    if environ.get("RAY_ADDRESS"):
        here = Path.cwd().resolve()
        paths = [str(root.relative_to(here)) for root in roots if root.is_relative_to(here)] + paths
    job = json.loads(environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    set_by_the_job = (job.get("runtime_env") or {}).get("env_vars") or {}
    variables = {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}
    return {key: value for key, value in variables.items() if key not in set_by_the_job}


def what_can_be_had(now: Mapping[str, float], at_most: Mapping[str, float] | None) -> dict[str, float]:
    """The resources of the nodes that run, or of all that the autoscaler may start if that is more."""
    grown = at_most or {}
    return {name: max(now.get(name, 0.0), grown.get(name, 0.0)) for name in {*now, *grown}}
