"""Voxels of NRRD, MHA and MHD files, read by SimpleITK (the extra `formats`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pixelglobal.data.nifti import RawScan, Unusable, chosen_volume, require_room

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def open_itk(path: Path, channel: int | None) -> RawScan:
    """The scan in a file that ITK reads; channel: which component or volume of several.

    Raises Unusable for a file that is not 3-D or claims more than it can hold, or if SimpleITK is not installed;
    RuntimeError for what ITK cannot read.
    """
    try:
        import SimpleITK as sitk
    except ImportError:
        raise Unusable(
            f"{path}: files such as *{path.suffix} are read by SimpleITK, which is not installed; "
            "run: pip install 'pixelglobal[formats]'"
        ) from None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    components, size = int(reader.GetNumberOfComponents()), tuple(int(n) for n in reader.GetSize())
    volume = chosen_volume(path, size if components == 1 else (*size, components), channel)
    require_room(path, components * int(np.prod(size, dtype=object)), _data_file(path))  # at least a byte each

    def slabs() -> Iterator[np.ndarray]:
        voxels = sitk.GetArrayViewFromImage(image)
        if components > 1:
            voxels = voxels[..., volume]
        elif voxels.ndim == 4:
            voxels = voxels[volume]
        for k in range(0, len(voxels), 16):
            yield voxels[k : k + 16]

    image = reader.Execute()
    axes = np.array(image.GetDirection(), np.float64).reshape(len(size), len(size))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return RawScan((size[0], size[1], size[2]), LPS_TO_RAS @ affine, slabs)


def _data_file(path: Path) -> Path | None:
    """The file beside an .mhd that holds the voxels; None for a file that holds its own."""
    if path.suffix != ".mhd":
        return None
    named = re.search(rb"(?m)^ElementDataFile\s*=\s*(\S.*?)\s*$", path.read_bytes()[:65536])
    held = path.parent / (named.group(1).decode(errors="replace") if named else "")
    if not held.is_file():
        raise Unusable(f"{path}: names the voxels' file {held.name!r}, which is not beside it; copy both")
    return held
