"""DICOM: a CT series as one grid of HU, and the structures of an RTSTRUCT or SEG on that grid (the extra `dicom`).

Coordinates are DICOM's, LPS in mm, at the centres of voxels; arrays here are [k, j, i] as the series stores them:
image, row, column. Shape letters of arrays of points: N points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import apply_rescale

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_PLACE_MM = 0.01
UNEVEN = 0.05  # how far the distance of two images may be from the usual one, as a share of it
MOST_PIXELS = 8192 * 8192

RoiNames = Mapping[str, Sequence[str]]  # {structure: names of its ROIs, or patterns such as "blad*"}


def read_series(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A CT series as (HU int16 [k, j, i], affine float64 [4, 4] from (i, j, k) to LPS mm, remarks).

    Images are ordered by their place along the normal of their plane, whatever their names and numbers. Raises
    ValueError that names a file for images of different grids, two at one place, missing ones, and damaged ones.
    """
    headers = [_header(path) for path in files]
    first = headers[0]
    for path, header in zip(files, headers, strict=True):
        if _grid(header) != _grid(first):
            raise ValueError(
                f"{path}: has rows, columns, spacing and orientation {_grid(header)}, {files[0].name} has "
                f"{_grid(first)}; expected one grid for a series. Export the images as series of their own"
            )
    if len(files) < 2:
        raise ValueError(f"{files[0]}: is the only image of its series; expected a scan of several. Export it again")
    across, down = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(across, down)
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    order = np.argsort(positions @ normal, kind="stable")
    files, positions = [files[i] for i in order], positions[order]
    _require_even_steps(files, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(files) - 1)
    rows_mm, columns_mm = map(float, first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([across * columns_mm, down * rows_mm, step])
    affine[:3, 3] = positions[0]
    hu = np.stack([_pixels(path) for path in files])
    tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    remarks = [f"the gantry was tilted by {tilt:.1f} degrees; slices stay as they were scanned"] if tilt > 0.1 else []
    return hu, affine, remarks


def read_structures(
    path: Path, roi_names: RoiNames | None, structures: Sequence[str], affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, tuple[bool, ...], list[str]]:
    """(labels uint8 [k, j, i], whether each structure was contoured, remarks) of an RTSTRUCT or SEG file.

    roi_names: see `RoiNames`; without it a ROI is the structure of the same name. Several ROIs of one structure are
    united. Where structures overlap, the later one of the list counts.
    """
    dataset = _read(path)
    labels, looked_for = np.zeros(shape, np.uint8), [False] * len(structures)
    masks: dict[int, np.ndarray] = {}
    remarks: list[str] = []
    contoured = str(dataset.get("Modality")) == "RTSTRUCT"
    regions = (
        _contoured(path, dataset, affine, shape, remarks) if contoured else _segments(path, dataset, affine, shape)
    )
    for name, mask in regions:
        structure = structure_of(name, roi_names)
        if structure in structures:
            index = structures.index(structure)
            looked_for[index] = True
            masks[index] = mask | masks[index] if index in masks else mask
    overlapping = 0
    for index in sorted(masks):
        overlapping += int(np.count_nonzero(labels[masks[index]]))
        labels[masks[index]] = index + 1
    if overlapping:
        remarks.append(f"{overlapping} voxels are in several structures and belong to the later one of the list")
    return labels, tuple(looked_for), remarks


def structure_of(roi: str, roi_names: RoiNames | None) -> str | None:
    """The structure of a ROI by its name, upper or lower case; None if it is none.

    >>> structure_of("BLADDER_1", {"Bladder": ["bladder*", "Blase"]}), structure_of("Couch", {"Bladder": ["Blase"]})
    ('Bladder', None)
    """
    if roi_names is None:
        return roi.strip()
    known = roi.strip().lower()
    return next((s for s, names in roi_names.items() if any(fnmatchcase(known, n.lower()) for n in names)), None)


def roi_names_in(dataset: Any) -> list[str]:
    """The names of the ROIs or segments of an RTSTRUCT or SEG, without the patient's outline (EXTERNAL)."""
    outlines = {
        int(one.ReferencedROINumber)
        for one in dataset.get("RTROIObservationsSequence", ())
        if str(one.get("RTROIInterpretedType", "")).upper() == "EXTERNAL"
    }
    rois = [str(r.ROIName) for r in dataset.get("StructureSetROISequence", ()) if int(r.ROINumber) not in outlines]
    return rois + [str(segment.SegmentLabel) for segment in dataset.get("SegmentSequence", ())]


def fill_contours(contours: Sequence[np.ndarray], affine: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """(mask bool [k, j, i], number of contours between or beyond images) of closed planar contours float [N, 3] in LPS.

    A voxel is inside if its centre is inside an odd number of the contours of its plane, so a contour in another is a
    hole. A contour between two images is on the nearer one, unless that has a nearer plane of contours.
    Raises ValueError for a contour that is not in the plane of an image.
    """
    to_index = np.linalg.inv(affine)
    planes: dict[float, dict[bytes, np.ndarray]] = {}
    for contour in contours:
        index = contour @ to_index[:3, :3].T + to_index[:3, 3]
        if np.ptp(index[:, 2]) > 0.5:
            raise ValueError("a contour is not in the plane of an image; expected contours drawn on the images")
        plane = round(float(index[:, 2].mean()), 2)
        planes.setdefault(plane, {})[index.round(6).tobytes()] = index[:, :2]  # one that is there twice is one
    mask, moved = np.zeros(shape, bool), 0
    nearest: dict[int, float] = {}
    for plane in sorted(planes, key=lambda p: abs(p - round(p))):
        nearest.setdefault(round(plane), plane)
        moved += len(planes[plane]) if abs(plane - round(plane)) > 0.1 or not 0 <= round(plane) < shape[0] else 0
    for k, plane in nearest.items():
        if 0 <= k < shape[0]:
            for polygon in planes[plane].values():
                _toggle_inside(mask[k], polygon)
    return mask, moved


def _toggle_inside(image: np.ndarray, polygon: np.ndarray) -> None:
    """Turn over the pixels [j, i] whose centres are inside a polygon of (i, j)."""
    from matplotlib.path import Path as Polygon

    low = np.maximum(np.floor(polygon.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 1, image.shape[::-1])
    if (high <= low).any() or len(polygon) < 3:
        return
    i, j = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    inside = Polygon(polygon).contains_points(np.column_stack([i.ravel(), j.ravel()])).reshape(i.shape)
    image[low[1] : high[1], low[0] : high[0]] ^= inside


def _contoured(
    path: Path, dataset: Any, affine: np.ndarray, shape: tuple[int, ...], remarks: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.get("StructureSetROISequence", ())}
    for roi in dataset.get("ROIContourSequence", ()):
        name = names.get(int(roi.ReferencedROINumber))
        contours = [
            np.array(contour.ContourData, float).reshape(-1, 3)
            for contour in roi.get("ContourSequence", ())
            if str(contour.get("ContourGeometricType")).startswith("CLOSED")
        ]
        if name is None or not contours:
            continue
        try:
            mask, moved = fill_contours(contours, affine, shape)
        except ValueError as error:
            raise ValueError(f"{path}: ROI {name}: {error}. Export the structures on this series again") from error
        if moved:
            remarks.append(f"{moved} contours of {name} are not on an image and were moved to the nearest, or left out")
        yield name, mask


def _segments(path: Path, dataset: Any, affine: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    from highdicom.seg import Segmentation

    segmentation = Segmentation.from_dataset(dataset, copy=False)
    to_index = np.linalg.inv(affine)
    for number in segmentation.segment_numbers:
        volume = segmentation.get_volume(segment_numbers=[number])
        place = np.argwhere(volume.array[..., 0] > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        index = place @ to_index[:3, :3].T + to_index[:3, 3]
        whole = np.rint(index).astype(int)
        apart = float(np.abs(index - whole).max(initial=0))
        if apart > 0.1 or (whole < 0).any() or (whole >= np.array(shape[::-1])).any():
            raise ValueError(
                f"{path}: its segments are up to {apart:.2f} voxels away from the voxels of the series, or outside it; "
                "expected the grid of the series. Export the segmentation on the grid of its CT"
            )
        mask = np.zeros(shape, bool)
        mask[whole[:, 2], whole[:, 1], whole[:, 0]] = True
        yield str(segmentation.get_segment_description(number).segment_label), mask


def _read(path: Path, **options: Any) -> Any:
    try:
        return pydicom.dcmread(path, **options)
    except Exception as error:  # pydicom has many
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: cannot be read ({type(error).__name__}: {error}); the file is damaged or incomplete. Export it again"
    )


def _header(path: Path) -> Any:
    header = _read(path, stop_before_pixels=True)
    needed = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
    missing = [name for name in needed if header.get(name) in (None, "")]
    if missing:
        raise ValueError(f"{path}: has no {', '.join(missing)}; expected them in a CT image. Export it again")
    try:
        _grid(header)
        place = np.array(header.ImagePositionPatient, float)
    except (TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError(f"{path}: its ImagePositionPatient is {header.ImagePositionPatient}; expected three mm")
    if not 0 < int(header.Rows) * int(header.Columns) <= MOST_PIXELS:
        raise ValueError(
            f"{path}: claims {header.Rows} x {header.Columns} pixels; the file is damaged. Export it again"
        )
    return header


def _grid(header: Any) -> tuple[Any, ...]:
    spacing = np.array(header.PixelSpacing, float).round(4)
    axes = np.array(header.ImageOrientationPatient, float).round(3) + 0.0
    if spacing.shape != (2,) or axes.shape != (6,) or not (spacing > 0).all() or not np.isfinite(axes).all():
        raise ValueError(f"spacing {spacing.tolist()} and orientation {axes.tolist()} give no plane")
    return int(header.Rows), int(header.Columns), tuple(spacing.tolist()), tuple(axes.tolist())


def _require_even_steps(files: Sequence[Path], along_mm: np.ndarray) -> None:
    steps = np.diff(along_mm)
    usual = float(np.median(steps))
    for i, step in enumerate(steps.tolist()):
        if step < SAME_PLACE_MM:
            raise ValueError(
                f"{files[i + 1]}: is at the same place as {files[i].name}; expected one image for each place. "
                "Export phases and reconstructions as series of their own"
            )
        if abs(step - usual) > UNEVEN * usual:
            raise ValueError(
                f"{files[i + 1]}: is {step:.2f} mm from {files[i].name} where {usual:.2f} mm are usual; expected even "
                "steps. Images are missing: export the series again, or resample it to even steps"
            )


def _pixels(path: Path) -> np.ndarray:
    """HU int16 [j, i] of one image."""
    dataset = _read(path)
    try:
        values = np.rint(apply_rescale(dataset.pixel_array, dataset))
    except Exception as error:  # pydicom and its decoders have many
        raise _damaged(path, error) from error
    limits = np.iinfo(np.int16)
    hu: np.ndarray = np.clip(values, limits.min, limits.max).astype(np.int16)
    if hu.ndim != 2:
        raise ValueError(f"{path}: holds pixels of shape {hu.shape}; expected one image for each file of a CT series")
    return hu
