"""CT volumes: scans and labels of any format on one grid, and the module that writes labels.

A volume is brought to canonical orientation (RAS+) once, when it is read, and keeps its spacing, affine and patient for
as long as it lives. Arrays are [Z, H, W]: slices from feet to head, rows from back to front, columns from the patient's
left to the patient's right. A mirror of the columns therefore swaps left and right structures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from nibabel.spaces import vox2out_vox

from pixelglobal.data.itk_formats import open_itk
from pixelglobal.data.nifti import RawScan, Unusable, open_nifti
from pixelglobal.files import write_file

UNKNOWN_LABEL = 255  # of voxels about which nothing is known (nnU-Net's ignore label); structures have 1 to 254

AFFINE_TOLERANCE_MM = 0.01  # how far apart image and label may lie at any corner of the scan
HU_LIMITS = np.iinfo(np.int16)
AIR_HU = -1024


@dataclass(frozen=True)
class Volume:
    """One scan with everything that gives its numbers a meaning."""

    image_hu: np.ndarray  # int16 [Z, H, W]; of pictures in colour [Z, C, H, W]
    labels: np.ndarray | None  # uint8 [Z, H, W]
    spacing_mm: tuple[float, float, float]  # (z, y, x), in array order
    affine: np.ndarray  # float64 [4, 4] of the canonical (x, y, z) voxel grid
    case: str
    patient: str
    looked_for: tuple[bool, ...] | None = None  # whether each structure was contoured at all; None: by its voxels
    remarks: tuple[str, ...] = ()  # what was noticed while the scan was read, for the summary


def read_volume(
    image_path: Path,
    label_path: Path | None = None,
    *,
    case: str,
    patient: str,
    n_structures: int | None = None,
    label_values: Sequence[int] | None = None,
    ignored_value: int | None = None,
    channel: int | None = None,
) -> Volume:
    """Read a CT and its labels in canonical orientation.

    n_structures: labels are 0..n_structures; or label_values: the value of each structure in the file, which become
    1, 2, 3, ...; ignored_value: the value of voxels about which nothing is known. channel: which volume of a 4-D file.
    HU are rounded and limited to int16. Raises ValueError, naming the file, what was seen and what to do, for a missing
    or damaged file, an image that is not 3-D or is empty, a header that gives voxels no place or claims more than the
    file can hold, voxels that are not finite, labels on another grid, and label values that are not expected.
    """
    if label_values is None and n_structures is not None:
        label_values = range(1, n_structures + 1)
    image_hu, affine = read_hu(image_path, channel)
    labels = None
    if label_path is not None:
        labels = read_labels_on_grid(label_path, image_path, image_hu.shape, affine, label_values, ignored_value)
    return Volume(image_hu, labels, spacing_zyx(affine), affine, case, patient)


def read_hu(path: Path, channel: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A CT's HU int16 [Z, H, W] in canonical orientation, and their affine; ValueError as in `read_volume`."""
    scan = _open(path, channel)
    hu = np.empty(scan.shape[::-1], np.int16)
    bad = done = 0
    for slab in _slabs_of(scan, path):
        if slab.dtype.kind == "f":
            bad += slab.size - int(np.count_nonzero(np.isfinite(slab)))
            slab = np.rint(np.nan_to_num(slab, nan=0.0))
        elif slab.dtype.kind == "u":
            slab = slab.astype(np.int64)  # whose range has the limits in it
        to = hu[done : done + len(slab)]
        if slab.dtype == np.int16:
            to[:] = slab
        else:
            np.clip(slab, HU_LIMITS.min, HU_LIMITS.max, out=to, casting="unsafe")
        done += len(slab)
    if bad:
        raise ValueError(
            f"{path}: {bad} voxels are not finite numbers (NaN or infinite); expected HU everywhere. "
            "Convert the scan again, or fill them with -1024 if they lie outside the scanner's circle"
        )
    return to_canonical(hu, scan.affine)


def read_labels(path: Path) -> tuple[np.ndarray, tuple[float, float, float], np.ndarray]:
    """A label file as (labels uint8 [Z, H, W], spacing_mm (z, y, x), affine) in canonical orientation."""
    labels, affine = _read_label_values(path, None, None)
    return labels, spacing_zyx(affine), affine


def read_labels_on_grid(
    path: Path,
    image_path: Path,
    shape: tuple[int, ...],
    affine: np.ndarray,
    label_values: Sequence[int] | int | None,
    ignored_value: int | None = None,
) -> np.ndarray:
    """Labels uint8 [Z, H, W] of a file that must lie on the canonical grid (shape, affine) of `image_path`.

    label_values: the value of each structure in the file, or their number where they are 1, 2, 3, ...
    """
    if isinstance(label_values, int):
        label_values = range(1, label_values + 1)
    labels, label_affine = _read_label_values(path, label_values, ignored_value)
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
    return labels


def write_labels(path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Write labels [Z, H, W] as uint8 NIfTI on the canonical grid of `affine`, whole or not at all."""
    _write(path, labels.astype(np.uint8, copy=False), affine)


def write_map(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Write values [Z, H, W] as float32 NIfTI on the canonical grid of `affine`, whole or not at all."""
    _write(path, values.astype(np.float32, copy=False), affine)


def to_canonical(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [k, j, i] of a grid as a view [Z, H, W] in RAS+ order, and the affine of that grid."""
    turn = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(voxels.transpose(2, 1, 0), turn)
    canonical = affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape[::-1])
    return turned.transpose(2, 1, 0), np.asarray(canonical, dtype=np.float64)


def spacing_zyx(affine: np.ndarray) -> tuple[float, float, float]:
    """The distances in mm between neighbouring voxels of a canonical grid, in array order (z, y, x)."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def on_straight_axes(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """A scan on a grid along the patient's axes with this spacing (z, y, x) that encloses it.

    HU are interpolated linearly, with air outside the scan; labels are those of the nearest voxel.
    """
    x_first = volume.image_hu.transpose(2, 1, 0)
    grid = vox2out_vox((x_first.shape, volume.affine), spacing_mm[::-1])

    def resampled(voxels: np.ndarray, order: int, fill: int) -> np.ndarray:
        image = resample_from_to(nib.Nifti1Image(voxels, volume.affine), grid, order=order, cval=fill)
        return np.asarray(image.dataobj).transpose(2, 1, 0)

    image_hu = np.rint(resampled(x_first.astype(np.float32), 1, AIR_HU)).astype(np.int16)
    labels = None if volume.labels is None else resampled(volume.labels.transpose(2, 1, 0), 0, 0)
    return replace(volume, image_hu=image_hu, labels=labels, affine=grid[1], spacing_mm=spacing_mm)


def _read_label_values(
    path: Path, label_values: Sequence[int] | None, ignored_value: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels in canonical orientation: 0, i + 1 for the i-th value, UNKNOWN_LABEL for the ignored one."""
    scan = _open(path, None)
    known = range(1, 256) if label_values is None else label_values
    code = np.zeros(256, np.uint8)
    code[list(known)] = np.arange(1, len(known) + 1)
    if ignored_value is not None:
        code[ignored_value] = UNKNOWN_LABEL
    labels = np.empty(scan.shape[::-1], np.uint8)
    wrong: set[float] = set()
    done = 0
    for slab in _slabs_of(scan, path):
        values = _values_in(slab)
        wrong |= {value for value in values if value not in (0, ignored_value) and value not in known}
        if not wrong:
            same = all(code[int(value)] == value for value in values)
            labels[done : done + len(slab)] = slab if same else code[slab.astype(np.uint8)]
        done += len(slab)
    if wrong:
        plain = list(known) == list(range(1, len(known) + 1))
        span = f"from 0 to {len(known)}" if plain else "0, " + ", ".join(map(str, known))
        raise ValueError(
            f"{path}: holds label values {', '.join(f'{v:g}' for v in sorted(wrong)[:5])}; expected whole numbers "
            f"{span}. Correct the file, or name the missing structures in dataset.json"
        )
    return to_canonical(labels, scan.affine)


def count_labels(labels: np.ndarray) -> np.ndarray:
    """How many voxels of a uint8 array have each of the values 0 to 255, int64 [256].

    >>> count_labels(np.array([[0, 2], [2, 0]], np.uint8))[:4].tolist()
    [2, 0, 2, 0]
    """
    drawn = labels[labels != 0]  # few of many: counting takes 8 bytes a voxel
    counts = np.bincount(drawn, minlength=256)
    counts[0] = labels.size - drawn.size
    return counts


def _values_in(slab: np.ndarray) -> list[float]:
    if slab.dtype == np.uint8:  # counted, not sorted
        return [float(value) for value in np.flatnonzero(count_labels(slab))]
    return [float(value) for value in np.unique(slab)]


def _open(path: Path, channel: int | None) -> RawScan:
    """The scan in a file, its voxels not read yet."""
    if not path.is_file():
        raise ValueError(
            f"{path}: there is no such file; check the paths in dataset.json and that the copy is complete"
        )
    is_nifti = path.name.endswith((".nii", ".nii.gz"))
    try:
        scan = open_nifti(path, channel) if is_nifti else open_itk(path, channel)
        _require_a_place_for_every_voxel(path, scan.affine)
    except Unusable as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # each library has its own errors for a damaged file
        raise _damaged(path, error) from error
    return scan


def _slabs_of(scan: RawScan, path: Path) -> Iterator[np.ndarray]:
    try:
        yield from scan.slabs()
    except Exception as error:  # gzip and zlib have their own errors
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    kind = "NIfTI" if path.name.endswith((".nii", ".nii.gz")) else f"{path.suffix} file"
    last_line = (str(error).strip().splitlines() or [""])[-1]  # ITK writes a page
    return ValueError(
        f"{path}: cannot be read ({type(error).__name__}: {last_line}); the file is damaged or no {kind}. Copy it again"
    )


def _require_a_place_for_every_voxel(path: Path, affine: np.ndarray) -> None:
    flat = not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9
    if flat or np.isnan(nib.orientations.io_orientation(affine)).any():  # an axis is lost beside a much longer one
        raise Unusable(
            f"{path}: its header's affine {affine[:3].tolist()} gives voxels no size or no place; expected a spacing "
            "in mm along three directions. Convert the scan from its source again"
        )


def _write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    write_file(path, lambda scratch: nib.save(image, scratch))
