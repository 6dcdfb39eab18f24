"""Ray for the studies: its start, what the cluster has, and how many trials fit on it at once."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch

from pixelglobal.cluster.train import gpus_each
from pixelglobal.config.schema import Config

ROOT = Path(__file__).resolve().parents[3]


def trials_at_once(config: Config, workers: int, available: dict[str, float]) -> int:
    """How many trials fit on the cluster together, Ray Data's share left free.

    Raises ValueError if not even one fits, with what is asked for and what there is.
    """
    cluster, count = config.cluster, max(1, workers)
    data = cluster.data_cpus if workers > 0 else 0.0
    cpus, gpus, each = available.get("CPU", 0.0), available.get("GPU", 0.0), gpus_each(config, available)
    fits = math.floor((cpus - data) / (count * cluster.cpus_per_worker) + 1e-9)
    if each:
        fits = min(fits, math.floor(gpus / (count * each) + 1e-9))
    if fits < 1:
        raise ValueError(
            f"one training needs {count} x {cluster.cpus_per_worker:g} CPUs and {count} x {each:g} "
            f"GPUs, and {data:g} CPUs must stay free for Ray Data; the cluster has {cpus:g} CPUs and {gpus:g} GPUs. "
            "Lower cluster.pretrain_workers, cluster.cpus_per_worker or cluster.gpus_per_worker, or add nodes"
        )
    return fits


def start_ray() -> dict[str, float]:
    """Join the cluster of RAY_ADDRESS (as in a submitted job), or start Ray on this machine.

    Returns what the cluster has or, with an autoscaler, can grow to.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's banners, which verbose=0 leaves on
        _init_patiently(
            address=None if os.environ.get("RAY_ADDRESS") else "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": worker_variables(os.environ)},
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
    return what_can_be_had(ray.cluster_resources(), ray._private.state.state.get_max_resources_from_cluster_config())


def _init_patiently(tries: int = 4, **options: Any) -> None:
    """ray.init; a busy machine may need longer than the 30 s that Ray gives its own processes to start."""
    for left in reversed(range(tries)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            if left == 0 or "timed out during startup" not in str(error):
                raise


def resources_without_starting() -> dict[str, float]:
    """What the cluster of RAY_ADDRESS has, else this machine: nothing is started here."""
    if os.environ.get("RAY_ADDRESS") or ray.is_initialized():
        return start_ray()
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def worker_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What every worker gets in its environment, less what the submitted job sets itself (Ray refuses both).

    PYTHONPATH finds the code: by its place here, and in a job by the working directory that Ray ships to every node.
    """
    paths = [str(ROOT / "ssl"), str(ROOT)]
    if environ.get("RAY_ADDRESS"):
        paths = ["ssl", ".", *paths]
    job = json.loads(environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    set_by_the_job = (job.get("runtime_env") or {}).get("env_vars") or {}
    variables = {"PYTHONPATH": os.pathsep.join(paths)}
    return {key: value for key, value in variables.items() if key not in set_by_the_job}


def what_can_be_had(now: Mapping[str, float], at_most: Mapping[str, float] | None) -> dict[str, float]:
    """The resources of the nodes that run, or of all that the autoscaler may start if that is more."""
    grown = at_most or {}
    return {name: max(now.get(name, 0.0), grown.get(name, 0.0)) for name in {*now, *grown}}
