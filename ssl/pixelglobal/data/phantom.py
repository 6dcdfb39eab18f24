"""A synthetic pelvic CT cohort, so that every promise can be tried without any patient's data.

Each patient is an ellipse of fat with a muscle wall, hip bones, a bladder, a rectum with gas and two femoral heads, in
positions, sizes, rotations and HU of their own, with noise, a couch and soft, low-contrast borders. It is no anatomy
lesson: it is just hard enough that a network must look at context to tell left from right and bladder from rectum.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

STRUCTURES = ("Bladder", "Rectum", "LeftFemur", "RightFemur")


@dataclass(frozen=True)
class _Ellipsoid:
    center: tuple[float, float, float]  # z, y, x in units of half the body, 0 is the middle
    radii: tuple[float, float, float]

    def distance(self, grid: list[np.ndarray]) -> np.ndarray:
        """Below 1 inside, above 1 outside."""
        return np.sqrt(sum(((g - c) / r) ** 2 for g, c, r in zip(grid, self.center, self.radii, strict=True)))


def make_phantom_cohort(
    folder: Path, *, n_patients: int = 12, n_unlabelled: int = 6, size: int = 64, n_slices: int = 16, seed: int = 0
) -> Path:
    """Write an MSD-layout cohort of NIfTI files and return its folder; the same arguments give the same bytes.

    n_patients have labels, n_unlabelled have none. Slices are `size` x `size` pixels of about 5.5 mm at 64.
    """
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    training, unlabelled = [], []
    for i in range(n_patients + n_unlabelled):
        rng = np.random.default_rng([seed, i])
        image_hu, labels, spacing_mm = make_phantom(rng, size=size, n_slices=n_slices)
        case = f"phantom_{i:03d}"
        affine = np.diag([spacing_mm[2], spacing_mm[1], spacing_mm[0], 1.0])
        _save(folder / "imagesTr" / f"{case}.nii.gz", image_hu, affine)
        if i < n_patients:
            _save(folder / "labelsTr" / f"{case}.nii.gz", labels, affine)
            training.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"})
        else:
            unlabelled.append(f"./imagesTr/{case}.nii.gz")
    description = {
        "name": "Phantom",
        "description": "Synthetic pelvic CT; no patient's data",
        "licence": "Apache-2.0",
        "labels": {"background": 0, **{name: i + 1 for i, name in enumerate(STRUCTURES)}},
        "left_right_pairs": [["LeftFemur", "RightFemur"]],
        "patients": {f"phantom_{i:03d}": f"phantom_{i:03d}" for i in range(n_patients + n_unlabelled)},
        "file_ending": ".nii.gz",
        "training": training,
        "unlabelled": unlabelled,
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    return folder


def make_phantom(
    rng: np.random.Generator, *, size: int, n_slices: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """One patient: HU int16 [Z, H, W], labels uint8 [Z, H, W], spacing in mm (z, y, x)."""

    def vary(value: float, by: float) -> float:
        return value * rng.uniform(1 - by, 1 + by)

    spacing_mm = (vary(5.0, 0.2), *(vary(5.5 * 64 / size, 0.08),) * 2)
    turn, shift_y, shift_x = rng.uniform(-0.12, 0.12), *rng.uniform(-0.06, 0.06, 2)
    z, y, x = np.meshgrid(np.linspace(-1, 1, n_slices), *(np.linspace(-1.25, 1.25, size),) * 2, indexing="ij")
    y, x = (
        np.cos(turn) * (y - shift_y) - np.sin(turn) * (x - shift_x),
        np.sin(turn) * (y - shift_y) + np.cos(turn) * (x - shift_x),
    )
    grid = [z, y, x]
    width, depth = vary(1.05, 0.08), vary(0.75, 0.08)
    wall = rng.uniform(0.10, 0.2)
    level = rng.uniform(-0.12, 0.12)  # where along the body the organs lie
    apart = vary(0.62, 0.08) * width
    # Canonical columns run from the patient's left to the right.
    left = _Ellipsoid((level, 0.02, -apart), (vary(0.62, 0.12), vary(0.21, 0.1), vary(0.19, 0.1)))
    right = _Ellipsoid((level, 0.02, apart), (vary(0.62, 0.12), vary(0.21, 0.1), vary(0.19, 0.1)))
    bladder = _Ellipsoid(
        (level + rng.uniform(-0.1, 0.1), vary(0.30, 0.2), rng.uniform(-0.06, 0.06)),
        (vary(0.55, 0.2), vary(0.24, 0.2), vary(0.34, 0.2)),
    )
    rectum_x = rng.uniform(-0.06, 0.06) + 0.06 * np.sin(3 * z + rng.uniform(0, 6))
    rectum = np.hypot((y + vary(0.34, 0.12)) / vary(0.15, 0.2), (x - rectum_x) / vary(0.16, 0.2))
    rectum = np.where(np.abs(z - level) < 0.8, rectum, 9.0)

    body = np.hypot(y / depth, x / width)
    hu = np.where(body < 1, np.where(body < 1 - wall, 40.0, -95.0), -1000.0)
    texture = ndimage.gaussian_filter(rng.normal(size=hu.shape), (0.7, 1.5, 1.5))
    hu += np.where(body < 1, texture / texture.std() * 18, 0)
    fat_planes = (body < 1 - wall) & (ndimage.gaussian_filter(rng.normal(size=hu.shape), (1, 2.5, 2.5)) > 0.075)
    hu[fat_planes] -= 95
    sacrum = _Ellipsoid((level - 0.2, -0.55 * depth / 0.75, 0.0), (0.9, 0.12, 0.25)).distance(grid)
    labels = np.zeros(hu.shape, np.uint8)
    for distance, value, shell in ((sacrum, rng.uniform(250, 450), 250),):
        hu = np.where(distance < 1, value + shell * (distance > 0.75), hu)
    for name, distance, value, shell in (
        ("Bladder", bladder.distance(grid), rng.uniform(0, 22), 25),
        ("Rectum", rectum, rng.uniform(20, 45), 15),
        ("LeftFemur", left.distance(grid), rng.uniform(280, 420), 350),
        ("RightFemur", right.distance(grid), rng.uniform(280, 420), 350),
    ):
        inside = (distance < 1) & (body < 0.97)
        hu = np.where(inside, value + shell * (distance > 0.8) + texture * 30, hu)
        labels[inside] = STRUCTURES.index(name) + 1
    gas = (rectum < rng.uniform(0.3, 0.6)) & (np.sin(5 * z + rng.uniform(0, 6)) > 0.2)
    hu[gas] = -850
    couch = (np.abs(y + depth + 0.12) < 0.03) & (np.abs(x) < 0.9)
    hu[couch & (body > 1)] = -550
    hu = ndimage.gaussian_filter(hu, (0.3, 0.7, 0.7)) + rng.normal(scale=14, size=hu.shape)
    return np.clip(np.rint(hu), -1024, 1800).astype(np.int16), labels, spacing_mm


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
