"""How fast slices reach a training loop, how well they are mixed, and what that takes of memory, beside named peers.

Every supply is measured in a process of its own; within a round one comes after the other, so that a slow minute of the
machine slows them all. The slices are synthetic, and all come from the page cache.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from experiments import FOLDER
from experiments.bench.data_peers import (
    SLICES_PER_SCAN,
    MappedSlices,
    ParquetSlices,
    persistent_slices,
    synthetic_store,
)
from experiments.bench.timing import Findings
from pixelglobal.cluster.resources import start_ray
from pixelglobal.cluster.stream import RayStream
from pixelglobal.cluster.train import fit_on_workers
from pixelglobal.config.schema import Config
from pixelglobal.data.order import SliceOrder
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.data.stream import LocalStream, MixedStream
from pixelglobal.files import read_json_object, write_json

BATCH_SIZE = 8
WORKERS = (0, 1, 2)  # of a DataLoader; the best counts
PEERS = {
    "DataLoader, Parquet": ParquetSlices,
    "DataLoader, memmap": MappedSlices,
    "MONAI PersistentDataset": persistent_slices,
}


@dataclass(frozen=True)
class Job:
    """One supply to measure: its name, where the slices are, and how many batches are timed."""

    name: str
    root: Path
    n_scans: int
    n_batches: int
    workers: int = 0


def bench_data(folder: Path, n_slices: int, rounds: int, n_batches: int) -> Findings:
    """Slices a second of our streams and of their peers, seconds to the first batch, and memory.

    folder: for 18 GB of files, which stay there for another time. n_batches: that are timed of each in a round.
    """
    start_ray([FOLDER])
    store, scans = synthetic_store(folder, n_slices), n_slices // SLICES_PER_SCAN
    jobs = [Job("stream", folder, scans, n_batches), Job("LocalStream", folder, scans, n_batches)]
    jobs += [Job(name, folder, scans, n_batches, workers) for name in PEERS for workers in WORKERS]
    jobs += [Job("stream", folder, max(1, scans // part), n_batches) for part in (4, 16)]
    measured: dict[Job, list[dict[str, float]]] = {job: [] for job in jobs}
    for _ in track(range(rounds), "rounds", console=Console(stderr=True), transient=True):
        for job, found in measured.items():
            found.append(_in_a_worker_of_ray(job) if job.name == "stream" else _in_a_new_process(job))
    rows = [_row(job, found) for job, found in measured.items()]
    best = {name: max(row["slices/s"] for row in rows if row["supply"] == name) for name in {j.name for j in jobs}}
    whole = next(row["slices/s"] for row in rows if row["supply"] == "stream" and row["scans"] == scans)
    ratios = {
        "stream_over_monai": whole / best["MONAI PersistentDataset"],
        "stream_over_dataloader_parquet": whole / best["DataLoader, Parquet"],
        "stream_over_memmap": whole / best["DataLoader, memmap"],
        **{
            f"stream_at_{scans // row['scans']}_times_fewer_slices": row["slices/s"] / whole
            for row in rows
            if row["supply"] == "stream" and row["scans"] != scans
        },
        **mixing(store),
    }
    facts: dict[str, Any] = {name: importlib.metadata.version(name) for name in ("ray", "torch", "pyarrow", "monai")}
    facts |= {"cpus": os.cpu_count(), "slices": n_slices, "side": store.image_size, "rounds": rounds}
    return Findings("Slices for a training loop", rows, ratios, facts | {"batches a round": n_batches})


def mixing(store: Store) -> dict[str, float]:
    """Different patients in a batch of 8 and in 100 such batches, over those of slices drawn anywhere."""
    n_slices = tuple(store.cases["n_slices"].astype(int))
    order, n = SliceOrder(n_slices, 0), len(n_slices)
    scan_of = np.array([order.unit(number).scan for number in range(order.units_per_pass)])
    scans = scan_of[order.pass_(0)[0]]
    shares = {}
    for count, name in ((BATCH_SIZE, "mixing_of_a_batch"), (100 * BATCH_SIZE, "mixing_of_100_batches")):
        parts = scans[: len(scans) // count * count].reshape(-1, count)
        ideal = n * (1 - (1 - 1 / n) ** count)
        if len(parts):
            shares[name] = float(np.mean([len(set(part.tolist())) for part in parts])) / ideal
    return shares


def measure(supply: Iterator[Any], n_batches: int) -> dict[str, float]:
    """Seconds to the first batch, then slices a second, and MiB of memory of this process and those it has started.

    The memory is resident and includes libraries; beside it stands what came with the slices.
    """
    before, began = _memory_mib(), time.perf_counter()
    _touch(next(supply))
    first = time.perf_counter() - began
    for batch in islice(supply, n_batches // 10):  # some were read ahead while nobody took them
        _touch(batch)
    began = time.perf_counter()
    for batch in islice(supply, n_batches):
        _touch(batch)
    rate = BATCH_SIZE * n_batches / (time.perf_counter() - began)
    after = _memory_mib()
    return {"slices/s": rate, "first batch s": first, "RSS MiB": after, "of slices MiB": after - before}


def _measure_stream(stream: MixedStream, n_batches: int) -> dict[str, float]:
    """The same of a stream, and the longest that a batch takes where a pass ends and another begins."""
    found, end = measure(stream.batches(0), n_batches), stream.n_slices // BATCH_SIZE
    around, waits = stream.batches(max(0, end - 20)), []
    _touch(next(around))
    for _ in range(40):
        began = time.perf_counter()
        _touch(next(around))
        waits.append(time.perf_counter() - began)
    return {**found, "next pass s": max(waits)}


def _touch(batch: Any) -> None:
    images = batch.image_hu if isinstance(batch, SliceBatch) else batch
    assert images.shape[0] == BATCH_SIZE
    images[:, ::64, ::64].sum()


def _memory_mib() -> float:
    own = psutil.Process()
    return sum(p.memory_info().rss for p in [own, *own.children(recursive=True)]) / 2**20


def _row(job: Job, found: list[dict[str, float]]) -> dict[str, Any]:
    median = {name: float(np.median([one[name] for one in found])) for name in found[0]}
    return {"supply": job.name, "scans": job.n_scans, "workers": job.workers, **median}


def _in_a_new_process(job: Job) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_of_this_process, job).result()


def _of_this_process(job: Job) -> dict[str, float]:
    torch.set_num_threads(1)
    store = Store.open(job.root)
    if job.name == "LocalStream":
        return _measure_stream(LocalStream(store, _cases(store, job), batch_size=BATCH_SIZE, seed=0), job.n_batches)
    slices: Any = PEERS[job.name](store)
    order = np.random.default_rng(0).permutation(len(slices))[: 2 * BATCH_SIZE * job.n_batches].tolist()
    if job.name.startswith("MONAI") and job.workers == 0:
        for index in order:  # its first epoch writes the cache; later ones are measured
            slices[index]
    return measure(iter(DataLoader(slices, BATCH_SIZE, sampler=order, num_workers=job.workers)), job.n_batches)


def _in_a_worker_of_ray(job: Job) -> dict[str, float]:
    result = job.root / "measured.json"
    work = {"job": {**asdict(job), "root": str(job.root)}, "result": str(result)}
    fit_on_workers(_of_a_worker, work, Config(), job.root / "ray", f"bench-{uuid4().hex}", 1)
    return {name: float(value) for name, value in read_json_object(result).items()}


def _of_a_worker(work: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    job = Job(**work["job"] | {"root": Path(work["job"]["root"])})
    store = Store.open(job.root)
    stream = RayStream(store, _cases(store, job), batch_size=BATCH_SIZE, seed=0)
    write_json(Path(work["result"]), _measure_stream(stream, job.n_batches))


def _cases(store: Store, job: Job) -> list[str]:
    return list(store.cases["case"][: job.n_scans])
