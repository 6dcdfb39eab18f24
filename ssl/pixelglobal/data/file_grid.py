"""Results of a scan on the very grid of its file: the same shape, orientation and affine, voxel by voxel.

Results of a CT are NIfTI files; of a picture they are pictures, labels as PNG and maps as TIFF.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pixelglobal.data.itk_formats import open_itk
from pixelglobal.data.pictures import picture_name, write_label_picture, write_map_picture
from pixelglobal.files import write_file


def write_labels_like(scan: Path, folder: Path, stem: str, labels: np.ndarray) -> None:
    """Write labels [Z, H, W] of a scan into `folder/stem.nii.gz` exactly as the scan's file lies: shape, orientation,
    affine, data type; of a picture into `folder/stem.png`.

    A type that cannot hold every label is replaced by uint8.
    """
    if picture_name(scan) is not None:
        write_label_picture(folder / f"{stem}.png", labels[0])
        return
    source = _opened(scan)
    dtype, highest = source.get_data_dtype(), labels.max(initial=0)
    holds = np.issubdtype(dtype, np.number) and highest.astype(dtype) == highest
    _write_like(source, folder / f"{stem}.nii.gz", labels, dtype if holds else np.dtype(np.uint8))


def write_map_like(scan: Path, folder: Path, stem: str, values: np.ndarray) -> None:
    """Write values [Z, H, W] of a scan as float32 exactly as the scan's file lies: `folder/stem.nii.gz`, or .tif."""
    if picture_name(scan) is not None:
        write_map_picture(folder / f"{stem}.tif", values[0])
        return
    _write_like(_opened(scan), folder / f"{stem}.nii.gz", values, np.dtype(np.float32))


def as_in_file(scan: Path, array: np.ndarray) -> np.ndarray:
    """Values [Z, H, W] of a scan as an array of the shape and order that the scan's file has; of a picture [H, W]."""
    if picture_name(scan) is not None:
        plane: np.ndarray = array[0]
        return plane
    return _as_in(_opened(scan), array)


def _opened(scan: Path) -> Any:
    """The header of a scan as that of a NIfTI file, which NRRD, MHA and MHD files have not: their grid, and int16."""
    if scan.name.endswith((".nii", ".nii.gz")):
        return nib.load(scan)
    raw = open_itk(scan, None)
    nowhere = np.broadcast_to(np.int16(0), raw.shape)  # takes no memory
    image = nib.Nifti1Image(nowhere, raw.affine)
    image.header.set_xyzt_units("mm")
    return image


def _as_in(source: Any, array: np.ndarray) -> np.ndarray:
    canonical = nib.orientations.io_orientation(np.eye(4))
    turn = nib.orientations.ornt_transform(canonical, nib.orientations.io_orientation(source.affine))
    turned: np.ndarray = nib.orientations.apply_orientation(array.transpose(2, 1, 0), turn)
    return turned.reshape(source.shape)


def _write_like(source: Any, path: Path, array: np.ndarray, dtype: np.dtype) -> None:
    header = source.header.copy()
    header.extensions.clear()  # they may name the patient
    header["descrip"], header["aux_file"], header["cal_min"], header["cal_max"] = b"", b"", 0, 0
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    image = type(source)(_as_in(source, array).astype(dtype, copy=False), source.affine, header)
    write_file(path, lambda scratch: nib.save(image, scratch))
