"""Preparing a cohort against nibabel alone, which decompresses the same files and does nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from experiments.bench.timing import Findings, interleaved
from pixelglobal.config.overrides import resolve
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare

PHANTOM = {"n_patients": 3, "n_unlabelled": 1, "size": 512, "n_slices": 40}


def bench_prepare(scans: Path | None = None, preset: str = "paper", rounds: int = 5) -> Findings:
    """Seconds to read every image and label file of a cohort with nibabel, and to prepare the cohort, on one core.

    scans: a cohort of NIfTI files in any layout; None: phantoms of 512 x 512 x 40 voxels, made for this. preset: whose
    `prepare.*` settings are used.
    """
    settings = resolve(preset, ["prepare.keep_ids=true"]).prepare
    with _cohort(scans) as folder, tempfile.TemporaryDirectory() as made:
        files = [p for case in read_cohort(folder, settings).cases for p in (case.image, case.label) if p is not None]

        def nibabel() -> int:
            images: list[Any] = [nib.load(path) for path in files]
            return sum(np.asarray(image.dataobj).size for image in images)

        def ours() -> None:
            shutil.rmtree(Path(made) / "store", ignore_errors=True)
            prepare(folder, Path(made) / "store", settings)

        seconds = interleaved({"nibabel": nibabel, "prepare": ours}, rounds)
        row = {"files": len(files), "million voxels": nibabel() / 1e6}
        row["MB on disk"] = sum(path.stat().st_size for path in files) / 1e6
    return Findings(
        f"Preparing {scans or 'phantoms'} with preset {preset}, against reading alone",
        [row | {f"{name} (s)": value for name, value in seconds.items()}],
        {"speed_of_prepare_over_nibabel": seconds["nibabel"] / seconds["prepare"]},
        {"nibabel": nib.__version__, "cpus": os.cpu_count(), "rounds": rounds},
    )


@contextmanager
def _cohort(scans: Path | None) -> Iterator[Path]:
    if scans is not None:
        yield scans
        return
    with tempfile.TemporaryDirectory() as folder:
        yield make_phantom_cohort(Path(folder) / "phantoms", **PHANTOM)
