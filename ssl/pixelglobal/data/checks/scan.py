"""What is probably wrong with one scan, judged by itself: its values, its grid and its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pixelglobal.data.checks.kinds import Suspect
from pixelglobal.data.checks.measure import Values

TISSUE_HU = -400.0
LEAST_TISSUE = 0.005  # share of a scan that is tissue
LEAST_RANGE_HU = 100  # between air or fat and bone, of every patient
FAT_HU = -20  # every patient has darker voxels
BRIGHTEST_HU = 10_000  # metal is darker
FINEST_MM, COARSEST_MM, LONGEST_MM = 0.1, 30.0, 2500.0  # of voxels, and of a whole scan along one axis
RIGHT_ANGLE_DEGREES = 1.0  # how far from a right angle two axes may be
COARSE = 2.0  # an axis in the plane of slices with so many times the spacing of both others was across slices
OFFSET_HU = 1024
LOWEST_HU, HIGHEST_HU = np.iinfo(np.int16).min, np.iinfo(np.int16).max  # to which values are limited when read


def suspects_of_values(case: str, values: Values) -> Iterator[Suspect]:
    """Values that are no HU, or hardly any body."""
    lowest, low, middle, high, highest = (values.quantile(share) for share in (0.0, 0.001, 0.5, 0.999, 1.0))
    seen = f"99.8 % of the voxels are from {low} to {high}, half of them up to {middle}"
    tissue = values.share(TISSUE_HU, np.inf)
    if lowest == highest:
        yield Suspect(case, "no_body", f"every voxel is {lowest}")
    elif tissue < LEAST_TISSUE:
        yield Suspect(case, "no_body", f"{tissue:.2%} of the voxels are above {TISSUE_HU:g} HU; {seen}")
    elif high - low < LEAST_RANGE_HU:
        yield Suspect(case, "not_hu", f"{seen}, as in scans that were scaled to 0..1 or to unit variance")
    elif high > BRIGHTEST_HU:
        yield Suspect(case, "not_hu", f"{seen}; metal has up to {BRIGHTEST_HU} HU")
    elif has_stored_offset(values):
        yield Suspect(case, "stored_offset", f"{seen}: air is near 0 and tissue near {OFFSET_HU}")
    elif low >= FAT_HU:
        yield Suspect(case, "not_hu", f"{seen}: neither air nor fat, as in MR")
    if low < high and (lowest == LOWEST_HU or highest == HIGHEST_HU):
        ends = int(values.counts[[0, -1]].sum())
        yield Suspect(case, "extreme_hu", f"{ends:,} voxels are at or beyond {LOWEST_HU} or {HIGHEST_HU}")


def has_stored_offset(values: Values) -> bool:
    """Whether a CT was stored with 1024 added: nothing below 0, and what is no air or lung is mostly near 1024."""
    body = values.share(500, np.inf)
    return values.quantile(0.001) >= FAT_HU and body > 0.02 and values.share(850, 1250) > 0.6 * body


def suspects_of_grid(
    case: str, affine: np.ndarray, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> Iterator[Suspect]:
    """A spacing that no scan of a patient has, axes that are not at right angles, slices that are not axial.

    affine: float [4, 4] of the canonical grid; shape, spacing_mm: (z, y, x).
    """
    z, y, x = spacing_mm
    words = f"voxels of {z:.4g} x {y:.4g} x {x:.4g} mm (z, y, x)"
    whole_mm = [n * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    if min(spacing_mm) < FINEST_MM or max(spacing_mm) > COARSEST_MM or max(whole_mm) > LONGEST_MM:
        whole = " x ".join(f"{mm:.4g}" for mm in whole_mm)
        yield Suspect(
            case, "spacing", f"{words}, so that the scan measures {whole} mm; expected voxels of {FINEST_MM:g} to "
            f"{COARSEST_MM:g} mm and at most {LONGEST_MM:g} mm"
        )  # fmt: skip
    elif x > COARSE * max(y, z) or y > COARSE * max(x, z):
        yield Suspect(case, "not_axial", f"{words}: the slices are {'sagittal' if x > y else 'coronal'}")
    if (apart := degrees_from_right_angles(affine)) > RIGHT_ANGLE_DEGREES:
        yield Suspect(case, "sheared", f"two axes are {apart:.1f} degrees away from a right angle")


def degrees_from_right_angles(affine: np.ndarray) -> float:
    """How far the two axes of an affine [4, 4] that are least at right angles are away from it."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    return float(np.degrees(np.arcsin(np.clip(cosine, 0, 1))))


def suspects_of_labels(case: str, labelled: bool, structures: Mapping[str, Mapping[str, Any]]) -> Iterator[Suspect]:
    """Labels without a voxel, and structures that touch the crop or are cut by it.

    structures: as `structures_of` gives them, with the voxels `outside_crop` and those `at_crop`, its border.
    """
    if labelled and not structures:
        yield Suspect(case, "empty_labels", "the label file has no labelled voxel")
    for name, facts in structures.items():
        if facts["outside_crop"]:
            yield Suspect(
                case, "crop", f"{facts['outside_crop']:,} voxels of {name} lie outside the stored slices, of "
                f"{facts['stored'] + facts['outside_crop']:,} on their grid"
            )  # fmt: skip
        elif facts["at_crop"]:
            yield Suspect(case, "crop", f"{facts['at_crop']:,} voxels of {name} lie at the border of the stored slices")
