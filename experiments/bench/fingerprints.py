"""How far altered copies of a scan are from it, and how far two patients are apart: what the threshold rests on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from experiments.bench.timing import Findings
from pixelglobal.config.schema import Prepare
from pixelglobal.data.fingerprint import NEAR_HU, Fingerprint, distance_hu, fingerprint_of
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.splits import read_splits

Scan = tuple[np.ndarray, tuple[float, float, float]]  # HU int16 [Z, H, W], spacing (z, y, x) in mm
SHARES = (0.5, 0.9, 1.0)  # of the altered copies that are at most so far from their scan
RARE = (0.0, 0.001, 0.01, 0.5)  # of the pairs of patients that are at most so far apart


def _resampled(scan: Scan, wanted_mm: tuple[float, float, float]) -> Scan:
    """Linear interpolation to about these spacings."""
    image_hu, spacing_mm = scan
    out = ndimage.zoom(image_hu.astype(np.float32), np.divide(spacing_mm, wanted_mm), order=1)
    exact = (s * n / m for s, n, m in zip(spacing_mm, image_hu.shape, out.shape, strict=True))
    z, y, x = exact
    return out.round().astype(np.int16), (z, y, x)


def _cut(scan: Scan, sides: tuple[float, float, float, float]) -> Scan:
    """Without these shares of the rows and columns at front, back, right and left."""
    (image_hu, spacing_mm), (_, h, w) = scan, scan[0].shape
    front, back, right, left = sides
    rows, columns = slice(round(front * h), h - round(back * h)), slice(round(right * w), w - round(left * w))
    return image_hu[:, rows, columns], spacing_mm


def _noisy(scan: Scan) -> Scan:
    noise = np.random.default_rng(0).normal(0, 20, scan[0].shape)
    return (scan[0] + noise).round().astype(np.int16), scan[1]


def _part(scan: Scan, begin: float, end: float) -> Scan:
    n = len(scan[0])
    return scan[0][round(begin * n) : round(end * n)], scan[1]


def _several(scan: Scan) -> Scan:
    image_hu, spacing_mm = _part(_resampled(_cut(scan, (0.05,) * 4), (4.0, 4.5, 4.5)), 0.2, 1)
    return image_hu[:, :, ::-1] + np.int16(1), spacing_mm


ALTERATIONS: Mapping[str, Callable[[Scan], Scan]] = {
    "1 HU more": lambda scan: (scan[0] + np.int16(1), scan[1]),
    "noise of 20 HU": _noisy,
    "mirrored": lambda scan: (scan[0][:, :, ::-1], scan[1]),
    "prone and feet first": lambda scan: (scan[0][::-1, ::-1], scan[1]),
    "upper half of the slices": lambda scan: _part(scan, 0.5, 1),
    "middle half of the slices": lambda scan: _part(scan, 0.25, 0.75),
    "resampled to 5 x 5 x 4 mm": lambda scan: _resampled(scan, (4.0, 5.0, 5.0)),
    "resampled to 2 x 2 x 1.5 mm": lambda scan: _resampled(scan, (1.5, 2.0, 2.0)),
    "10 % cut off at each side": lambda scan: _cut(scan, (0.1,) * 4),
    "15 % cut off at one side": lambda scan: _cut(scan, (0, 0, 0.15, 0)),
    "cut, resampled, mirrored, 1 HU more": _several,
}


def bench_fingerprints(scans: Path, splits: Path | None = None, altered: int = 20) -> Findings:
    """Distances in HU of altered copies to their scan, and of every pair of scans, each of its own patient.

    scans: a cohort in any layout. splits: a split file, whose test patients are left out. altered: of how many scans
    copies are made. Raises ValueError if fewer than two patients are left.
    """
    cohort = read_cohort(scans, Prepare())
    held_out = set(read_splits(splits, cohort.cases).test) if splits else set()
    cases = list({case.patient: case for case in cohort.cases if case.case not in held_out}.values())
    if len(cases) < 2:
        raise ValueError(f"{scans}: {len(cases)} patients are left; expected two or more, to compare them")
    console = Console(stderr=True)
    made: list[Fingerprint] = []
    copies: dict[str, list[float]] = {name: [] for name in ALTERATIONS}
    chosen = {round(i) for i in np.linspace(0, len(cases) - 1, min(altered, len(cases)))}
    for i, case in enumerate(track(cases, "scans", console=console, transient=True)):
        volume = cohort.load(case, cohort.code, None)
        scan = volume.image_hu, volume.spacing_mm
        made.append(fingerprint_of(*scan))
        for name, alter in ALTERATIONS.items() if i in chosen else ():
            copies[name].append(distance_hu(fingerprint_of(*alter(scan)), made[-1]))
    pairs = list(itertools.combinations(made, 2))
    apart = [distance_hu(a, b) for a, b in track(pairs, "pairs of patients", console=console, transient=True)]
    return _found(copies, np.array(apart), len(cases))


def _found(copies: Mapping[str, list[float]], apart: np.ndarray, n_patients: int) -> Findings:
    findings = Findings("Distances of fingerprints in HU", facts={"patients": n_patients, "threshold_hu": NEAR_HU})
    everything = [distance for distances in copies.values() for distance in distances]
    for name, distances in {**copies, "all altered copies": everything}.items():
        findings.rows.append(
            {"scans": name, "number": len(distances)}
            | {f"{share:.0%} below": float(np.quantile(distances, share)) for share in SHARES}
            | {"found": sum(d < NEAR_HU for d in distances)}
        )
    findings.rows.append(
        {"scans": "two patients", "number": len(apart), "found": int((apart < NEAR_HU).sum())}
        | {("nearest" if share == 0 else f"{share:.1%} nearer"): float(np.quantile(apart, share)) for share in RARE}
    )
    finite = apart[np.isfinite(apart)]
    findings.ratios["nearest_patients_over_threshold"] = float(finite.min() / NEAR_HU)
    return findings
