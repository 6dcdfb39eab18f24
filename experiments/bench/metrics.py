"""Distances against MONAI and DeepMind's surface-distance, on organs of 2-D slices and of a whole kidney pair."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable

import numpy as np
import torch

from experiments.bench.timing import Findings, interleaved
from pixelglobal.evaluation.metrics import _common_box, _contours, hausdorff_mm

Masks = tuple[np.ndarray, np.ndarray, tuple[float, ...]]


def bench_metrics(rounds: int = 15) -> Findings:
    """HD95 in mm of one pair of masks: milliseconds a call, and how many times as long the peers take."""
    try:
        import edt
        import surface_distance
        from monai.metrics import compute_hausdorff_distance
    except ImportError as missing:
        raise ValueError(f"{missing.name} is not installed; the peers come with pip install '.[bench]'") from None
    warnings.simplefilter("ignore", FutureWarning)
    findings = Findings(
        "HD95 of one pair of masks, one thread",
        facts={
            name: importlib.metadata.version(name) for name in ("monai", "surface-distance", "edt", "scipy", "numpy")
        }
        | {"cpu_threads": 1, "cpus": os.cpu_count()},
    )
    torch.set_num_threads(1)
    for name, (a, b, spacing_mm) in cases().items():

        def monai(a: np.ndarray = a, b: np.ndarray = b, spacing_mm: tuple[float, ...] = spacing_mm) -> float:
            pair = (torch.from_numpy(mask)[None, None] for mask in (a, b))
            return float(
                compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing_mm))
            )

        def deepmind(a: np.ndarray = a, b: np.ndarray = b, spacing_mm: tuple[float, ...] = spacing_mm) -> float:
            distances = surface_distance.compute_surface_distances(a, b, spacing_mm)
            return float(surface_distance.compute_robust_hausdorff(distances, 95))

        def ours(a: np.ndarray = a, b: np.ndarray = b, spacing_mm: tuple[float, ...] = spacing_mm) -> float:
            return hausdorff_mm(a, b, spacing_mm, 95)

        def crop_edt(a: np.ndarray = a, b: np.ndarray = b, spacing_mm: tuple[float, ...] = spacing_mm) -> float:
            return _by_distance_maps(a, b, spacing_mm, edt.edt)

        calls: dict[str, Callable[[], object]] = {"pixelglobal": ours, "monai": monai, "surface_distance": deepmind}
        calls |= {"crop_edt": crop_edt} if a.ndim == 3 else {}
        seconds = interleaved(calls, rounds if a.ndim == 2 else max(3, rounds // 5))
        row = {"case": name, "HD95 (mm)": ours(), "HD95 by MONAI (mm)": monai()}
        findings.rows.append(row | {f"{peer} (ms)": value * 1e3 for peer, value in seconds.items()})
        short = name.split(",")[0].replace(" ", "_")
        for peer in [name for name in calls if name != "pixelglobal"]:
            findings.ratios[f"{peer}_over_pixelglobal_{short}"] = seconds[peer] / seconds["pixelglobal"]
    return findings


def _by_distance_maps(
    a: np.ndarray, b: np.ndarray, spacing_mm: tuple[float, ...], transform: Callable[..., np.ndarray]
) -> float:
    """HD95 by distance maps within the box of both masks; only the search for the nearest point differs from ours."""
    box = _common_box(a, b)
    contours = _contours(a[box], b[box])
    maps = [transform(~contour, anisotropy=spacing_mm, parallel=1) for contour in contours]
    return float(max(np.percentile(maps[1][contours[0]], 95), np.percentile(maps[0][contours[1]], 95)))


def cases() -> dict[str, Masks]:
    """Two contours of one organ as two readers might draw it; the sizes are those of real organs in CT."""
    flat, deep = (0.9, 0.9), (3.0, 0.78, 0.78)
    organ = _blob((384, 384), (190, 200), (40, 30)), _blob((384, 384), (191, 201), (41, 30), lobes=5)
    far = organ[1].copy()
    far[20:24, 20:24] = True
    small = _blob((384, 384), (190, 200), (6, 4)), _blob((384, 384), (191, 200), (6, 5), lobes=5)
    size, radii = (100, 512, 512), (18, 42, 32)
    left, right = (50, 256, 160), (52, 250, 350)
    kidneys = _blob(size, left, radii) | _blob(size, right, radii)
    redrawn = _blob(size, (50, 257, 161), radii, lobes=5) | _blob(size, right, (18, 43, 32), lobes=5)
    liver = _blob(size, (50, 256, 200), (36, 110, 110)), _blob(size, (51, 257, 200), (36, 112, 108), lobes=5)
    return {
        "organ, 80 x 60 pixels of 384 x 384": (*organ, flat),
        "far_false_positive, the organ and 4 x 4 pixels": (organ[0], far, flat),
        "small_organ, 12 x 8 pixels of 384 x 384": (*small, flat),
        "kidneys, a pair in 100 x 512 x 512": (kidneys, redrawn, deep),
        "liver, 140 x 170 x 110 mm in 100 x 512 x 512": (*liver, deep),
    }


def _blob(shape: tuple[int, ...], center: tuple[int, ...], radii: tuple[int, ...], lobes: int = 3) -> np.ndarray:
    """An ellipsoid whose radius goes up and down by 5 % around its last two axes."""
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    scaled = [(g - c) / r for g, c, r in zip(grid, center, radii, strict=True)]
    angle = np.arctan2(scaled[-2], scaled[-1])
    return sum(s**2 for s in scaled) <= (1 + 0.05 * np.sin(lobes * angle)) ** 2
