"""CT volumes: the only module that reads and writes medical files.

A volume is brought to canonical orientation (RAS+) once, when it is read, and keeps its spacing, affine and patient for
as long as it lives. Arrays are [Z, H, W]: slices from feet to head, rows from back to front, columns from the patient's
left to the patient's right. A mirror of the columns therefore swaps left and right structures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pixelglobal.files import write_file

AFFINE_TOLERANCE_MM = 0.01  # how far apart image and label may lie at any corner of the scan


@dataclass(frozen=True)
class Volume:
    """One scan with everything that gives its numbers a meaning."""

    image_hu: np.ndarray  # int16 [Z, H, W]
    labels: np.ndarray | None  # uint8 [Z, H, W]
    spacing_mm: tuple[float, float, float]  # (z, y, x), in array order
    affine: np.ndarray  # float64 [4, 4] of the canonical (x, y, z) voxel grid
    case: str
    patient: str


def read_volume(
    image_path: Path, label_path: Path | None = None, *, case: str, patient: str, n_structures: int | None = None
) -> Volume:
    """Read a CT and its labels in canonical orientation.

    HU are rounded and limited to int16. Raises ValueError, naming the file, what was seen and what to do, for a missing
    or damaged file, an image that is not 3-D or is empty, a header that gives voxels no place, voxels that are not
    finite, labels on another grid, label values that are not whole numbers in 0..n_structures.
    """
    image, affine = _read_canonical(image_path)
    if not np.isfinite(image).all():
        bad = int((~np.isfinite(image)).sum())
        raise ValueError(
            f"{image_path}: {bad} voxels are not finite numbers (NaN or infinite); expected HU everywhere. "
            "Convert the scan again, or fill them with -1024 if they lie outside the scanner's circle"
        )
    limits = np.iinfo(np.int16)
    image_hu = np.clip(np.rint(image), limits.min, limits.max).astype(np.int16)
    labels = None
    if label_path is not None:
        labels = read_labels_on_grid(label_path, image_path, image.shape, affine, n_structures)
    return Volume(image_hu, labels, _spacing_zyx(affine), affine, case, patient)


def read_labels(path: Path) -> tuple[np.ndarray, tuple[float, float, float], np.ndarray]:
    """A label file as (labels uint8 [Z, H, W], spacing_mm (z, y, x), affine) in canonical orientation."""
    labels, affine = _read_canonical(path)
    return _whole_labels(labels, path, None), _spacing_zyx(affine), affine


def write_labels(path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Write labels [Z, H, W] as uint8 NIfTI on the canonical grid of `affine`, whole or not at all."""
    _write(path, labels.astype(np.uint8), affine)


def write_map(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Write values [Z, H, W] as float32 NIfTI on the canonical grid of `affine`, whole or not at all."""
    _write(path, values.astype(np.float32), affine)


def _write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    write_file(path, lambda scratch: nib.save(image, scratch))


def _read_canonical(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [Z, H, W] float32 and affine of a NIfTI file in RAS+ order."""
    if not path.is_file():
        raise ValueError(
            f"{path}: there is no such file; check the paths in dataset.json and that the copy is complete"
        )
    try:
        source: Any = nib.load(path)
        shape = tuple(source.shape)
        if len(shape) == 4 and shape[3] == 1:
            source = nib.funcs.four_to_three(source)[0]
        elif len(shape) != 3:
            raise _Unusable(
                f"{path}: has shape {shape}; expected one 3-D scan. Split a 4-D file into its scans "
                "(one file and one case each) and keep the phase you want"
            )
        if not (int(source.header["sform_code"]) or int(source.header["qform_code"])):
            raise _Unusable(
                f"{path}: its header says neither by sform nor by qform which side is left (both codes are 0); "
                "expected one of them. Convert the scan from its source again; left and right cannot be guessed"
            )
        _require_a_place_for_every_voxel(path, shape, source.affine)
        canonical = nib.as_closest_canonical(source)
        voxels = np.asarray(canonical.dataobj, dtype=np.float32)
    except _Unusable as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # nibabel, gzip and zlib each have their own errors for a damaged file
        raise ValueError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); the file is damaged or no NIfTI. Copy it again"
        ) from error
    return voxels.transpose(2, 1, 0), np.asarray(canonical.affine, dtype=np.float64)


class _Unusable(Exception):
    """A file that can be read and cannot be used."""


def _require_a_place_for_every_voxel(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
    if 0 in shape:
        raise _Unusable(f"{path}: has shape {shape} and so no voxels; expected a 3-D scan. Export it again")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise _Unusable(
            f"{path}: its header's affine {affine[:3].tolist()} gives voxels no size or no place; expected a spacing "
            "in mm along three directions. Convert the scan from its source again"
        )


def read_labels_on_grid(
    path: Path, image_path: Path, shape: tuple[int, ...], affine: np.ndarray, n_structures: int | None
) -> np.ndarray:
    """Labels uint8 [Z, H, W] of a file that must lie on the canonical grid (shape, affine) of `image_path`."""
    labels, label_affine = _read_canonical(path)
    if labels.shape != shape:
        raise ValueError(
            f"{path}: has {labels.shape} voxels (z, y, x), its image {image_path.name} has {shape}; expected the same "
            "grid. Resample the labels onto the image with nearest neighbour"
        )
    corners = np.array([[x, y, z, 1] for z in (0, shape[0]) for y in (0, shape[1]) for x in (0, shape[2])])
    apart_mm = float(np.abs((corners @ (affine - label_affine).T)[:, :3]).max())
    if apart_mm > AFFINE_TOLERANCE_MM:
        raise ValueError(
            f"{path}: lies up to {apart_mm:.2f} mm away from its image {image_path.name}; expected at most "
            f"{AFFINE_TOLERANCE_MM} mm. Copy the image's header to the labels if they were drawn on it, else resample"
        )
    return _whole_labels(labels, path, n_structures)


def _whole_labels(labels: np.ndarray, path: Path, n_structures: int | None) -> np.ndarray:
    values = np.unique(labels)
    highest = 255 if n_structures is None else n_structures
    wrong = values[~np.isfinite(values) | (values != np.rint(values)) | (values < 0) | (values > highest)].tolist()
    if wrong:
        raise ValueError(
            f"{path}: holds label values {', '.join(f'{v:g}' for v in wrong[:5])}; expected whole numbers from 0 to "
            f"{highest}. Correct the file, or name the missing structures in dataset.json"
        )
    return labels.astype(np.uint8)


def _spacing_zyx(affine: np.ndarray) -> tuple[float, float, float]:
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)
