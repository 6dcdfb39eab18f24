"""The stage graph: every result lives in a folder whose name is the hash of exactly what made it.

A stage is one pre-training, one fine-tuning or one evaluation. Its address is a hash of the settings that can change
its result, of the content of its data, and of the addresses of the stages before it. Studies that need the same stage
share it; a finished stage is never run again; two drivers never run the same stage at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments import FOLDER
from pixelglobal.config.registry import METHODS, method_class
from pixelglobal.config.schema import Config
from pixelglobal.data.pool import Pool, Scans
from pixelglobal.data.store import Store
from pixelglobal.environment import environment
from pixelglobal.evaluation.pseudo_labels import unlabelled_cases
from pixelglobal.files import digest_of, write_file, write_json
from pixelglobal.training.pretrain import pretraining_cases

logger = logging.getLogger(__name__)

# Raise a number when the code of a stage changes what it computes from the same settings.
SCHEMA = {"pretrain": 6, "finetune": 5, "evaluate": 5}
STALE_AFTER_SECONDS = 120.0


TRAINING_STATES = ("checkpoints", "train")  # folders of a stage that only serve to continue it


@dataclass(frozen=True)
class Stage:
    """One node of the graph. `facts` is all that its address was made of."""

    kind: str
    folder: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Kind and address, as in the folder's name."""
        return self.folder.name

    @property
    def is_complete(self) -> bool:
        """Whether the result is there, its files as long as they were; if one is missing or cut, it is computed anew.

        A torn mark is an error that says what to delete.
        """
        mark = self.folder / "done.json"
        if not mark.is_file():
            return False
        try:
            facts = json.loads(mark.read_text())
            sizes, digests = facts.get("bytes", {}), facts.get("sha256", {})  # an older version kept no digests
            if facts["name"] != self.name or sizes != self._sizes(sizes) or float(facts["seconds"]) < 0:
                return False
            damaged = [name for name in digests if _digest_of(self.folder / name) != digests[name]]
            for name in damaged:
                logger.warning(
                    "%s is not what done.json says: it was damaged, and its stage is run again", self.folder / name
                )
            return not damaged
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            raise ValueError(
                f"{mark} cannot be read; delete the folder {self.folder} and run the same command again: "
                "only this stage is computed anew"
            ) from None

    def _sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Length in bytes of those of these files of the folder that exist."""
        paths = {name: self.folder / name for name in names}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}

    def results(self) -> dict[str, int]:
        """The files that other stages and reports read, and their length in bytes."""
        found = [*self.folder.glob("model/*"), *self.folder.glob("rows.parquet")]
        return self._sizes(str(path.relative_to(self.folder)) for path in found)

    def contents(self) -> dict[str, dict[str, Any]]:
        """Length and SHA-256 digest of each file that other stages and reports read."""
        sizes = self.results()
        return {"bytes": sizes, "sha256": {name: _digest_of(self.folder / name) for name in sizes}}

    @property
    def is_running(self) -> bool:
        """Whether a living process works on it."""
        try:
            return not _is_stale(self.folder / "lock.json")
        except FileNotFoundError:
            return False

    @property
    def seconds(self) -> float:
        """How long a complete stage took, over all its tries."""
        return float(json.loads((self.folder / "done.json").read_text())["seconds"])


def _digest_of(path: Path) -> str:
    """The digest of a file; of one that has not changed since, that of the first time."""
    state = path.stat()
    return _digest_of_state(path, state.st_size, state.st_mtime_ns)


@cache
def _digest_of_state(path: Path, size: int, changed_ns: int) -> str:  # noqa: ARG001
    return digest_of(path)


def _stage(out: Path, kind: str, facts: dict[str, Any]) -> Stage:
    facts = {"kind": kind, "schema": SCHEMA[kind], **facts}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    address = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return Stage(kind, out / "stages" / f"{kind}-{address}", facts)


def scans_of(store: Store, cases: Sequence[str]) -> str:
    """A hash of the slices of some cases as pre-training sees them: voxels, the way they were prepared, and which scans
    are of one patient. Labels, structures and names have no part in it, so that cohorts may share a pre-training."""
    rows = store.cases[store.cases["case"].isin(list(cases))].sort_values("case")
    patients = {patient: number for number, patient in enumerate(dict.fromkeys(rows["patient"]))}
    scans = [[sha256, patients[patient]] for sha256, patient in zip(rows["sha256"], rows["patient"], strict=True)]
    return _hash([_grid_of(store), scans])


def pretraining_scans_of(config: Config, scans: Scans) -> str:
    """A hash of what an epoch of a pre-training shows, of a store or of a pool, and of nothing that comes later."""
    if isinstance(scans, Pool):
        return _hash([[scans_of(source.store, source.cases), source.copies] for source in scans.sources])
    assert isinstance(scans, Store)
    return scans_of(scans, pretraining_cases(config, scans))


def content_of(store: Store, cases: Sequence[str]) -> str:
    """A hash of what some cases hold: voxels, labels, grid and the way they were prepared."""
    rows = store.cases[store.cases["case"].isin(list(cases))].sort_values("case").to_csv(index=False)
    facts = [store.structures, store.left_right_pairs, store.absent_structures, _grid_of(store)]
    return _hash([facts, rows])


def _grid_of(store: Store) -> list[float | None]:
    grid = [store.image_size, store.hu_min, store.hu_max, store.in_plane_spacing_mm]
    return [*grid, True] if store.antialias else grid


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def pretrain_stage(out: Path, config: Config, scans: Scans) -> Stage:
    """The pre-training that a config describes, on the pre-training split of a store or on a pool.

    Its address holds what its method reads and nothing else: the slices, but not the downstream task; the method's own
    section, but no other method's.
    """
    method = method_class(config.pretrain.method)
    facts = {
        "seed": config.pretraining_seed,
        "data": pretraining_scans_of(config, scans),
        "workers": max(1, config.cluster.pretrain_workers),  # another number of workers draws other batches
        **({"sync_batch_norm": config.cluster.sync_batch_norm} if config.cluster.pretrain_workers > 1 else {}),
        "code": _source_of(config.pretrain.method),
        "views": config.views.effective(),
        "network": config.network.effective(),
        "pretrain": config.pretrain.effective(),
        method.name: config.methods[method.name].effective(),
    }
    return _stage(out, "pretrain", facts)


def _source_of(method: str) -> str | None:
    """A hash of the file of a method that is given as module:Class; the library's own have SCHEMA."""
    if method in METHODS:
        return None
    return hashlib.blake2b(Path(inspect.getfile(method_class(method))).read_bytes(), digest_size=8).hexdigest()


def finetune_stage(
    out: Path,
    config: Config,
    store: Store,
    pretrained: Stage | None,
    train: Sequence[str],
    validation: Sequence[str],
    *,
    teacher: Stage | None = None,
    normalized_by: Scans | None = None,
) -> Stage:
    """A fine-tuning from a pre-training, or from random weights (None).

    teacher: the first round of a self-training. normalized_by: what the pre-training sees, if not the store's scans.
    """
    settings = config.finetune.effective()
    pseudo = {name: settings.pop(name) for name in ("pseudo_labels", "pseudo_label_fraction")}
    if teacher is not None:
        unlabelled = scans_of(store, unlabelled_cases(config, store, train))
        pseudo |= {"teacher": teacher.name, "unlabelled": unlabelled}
    facts = {
        "seed": config.seed,
        "pretrained": pretrained.name if pretrained else None,
        "train": content_of(store, train),
        "validation": content_of(store, validation),
        "workers": max(1, config.cluster.finetune_workers),
        # Random weights see intensities normalised as a pre-training would.
        "normalization": config.pretrain.normalization,
        "normalized_by": pretraining_scans_of(config, normalized_by or store),
        "network": config.network.effective(),
        "finetune": settings,
        **(pseudo if teacher else {}),
    }
    if pretrained is None and config.network.weights is not None:
        facts["weights"] = _digest_of_weights(config.network.weights)
    return _stage(out, "finetune", facts)


def _digest_of_weights(file: str) -> str:
    try:
        return digest_of(Path(file))
    except OSError as error:
        raise ValueError(f"cannot read network.weights={file!r}: {error}") from None


def evaluate_stage(out: Path, config: Config, store: Store, finetuned: Stage, cases: Sequence[str]) -> Stage:
    """An evaluation of a fine-tuning on held-out cases."""
    facts = {
        "finetuned": finetuned.name,
        "cases": content_of(store, cases),
        "precision": config.finetune.precision,
        "evaluate": config.evaluate.effective(),
    }
    return _stage(out, "evaluate", facts)


def check_writable(out: Path) -> None:
    """Raise ValueError if nothing can be written to the folder of all stages: better now than after a training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {out} ({error}): give an --out folder that can be written to") from None


@contextmanager
def working_on(stage: Stage) -> Iterator[bool]:
    """Do a stage inside: yields False if it is complete already (also if another process has just finished it).

    Waits while another living process works on it; takes over from a dead one. A stage that raises keeps its folder,
    with the traceback in error.txt, so that the same command can continue it.
    """
    check_writable(stage.folder)
    lock = stage.folder / "lock.json"
    while not stage.is_complete and not _take(lock):
        time.sleep(1.0)
    if stage.is_complete:
        _release(lock)  # ours if it was finished between the look and the lock
        yield False
        return
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(lock, stop, _me()), daemon=True)
    heart.start()
    began = time.perf_counter()
    earlier = stage.folder / "seconds.json"
    spent = float(json.loads(earlier.read_text())) if earlier.is_file() else 0.0
    try:
        write_json(stage.folder / "stage.json", stage.facts)
        write_json(stage.folder / "environment.json", environment([FOLDER]))
        (stage.folder / "error.txt").unlink(missing_ok=True)
        yield True
        seconds = round(spent + time.perf_counter() - began, 3)
        write_json(stage.folder / "done.json", {"name": stage.name, "seconds": seconds, **stage.contents()})
        earlier.unlink(missing_ok=True)
        for name in TRAINING_STATES:  # several times the model's size, and of no use any more
            shutil.rmtree(stage.folder / name, ignore_errors=True)
    except BaseException:
        with suppress(OSError):  # a disk that is full must not hide what went wrong
            write_file(stage.folder / "error.txt", traceback.format_exc())
            write_json(earlier, spent + time.perf_counter() - began)
        raise
    finally:
        stop.set()
        heart.join()
        _release(lock)


def _take(lock: Path) -> bool:
    """Write the lock, unless a living process holds it.

    Looking at it, taking over from the dead and writing it are one step under a file lock of the system, which a
    killed process cannot leave behind.
    """
    with lock.with_name(".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if lock.exists() and not _is_stale(lock):
            return False
        write_json(lock, _me())
    return True


def _release(lock: Path) -> None:
    """Remove the lock if it is ours: a machine that slept may have been taken for dead."""
    with lock.with_name(".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if _owner(lock) == _me():
            lock.unlink()


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "thread": threading.get_ident()}


def _owner(lock: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(lock.read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _is_stale(lock: Path) -> bool:
    owner = _owner(lock)
    here = owner is not None and owner.get("host") == socket.gethostname() and Path("/proc").exists()
    if owner and here and not Path(f"/proc/{owner.get('pid')}").exists():
        return True
    return time.time() - lock.stat().st_mtime > STALE_AFTER_SECONDS


def _beat(lock: Path, stop: threading.Event, me: dict[str, Any]) -> None:
    while not stop.wait(10.0):
        if _owner(lock) == me:
            with suppress(OSError):  # a shared disk may stumble; the next beat comes in time
                os.utime(lock)
