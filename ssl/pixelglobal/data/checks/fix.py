"""What can be put right in a scan without a doubt, when `prepare.fix` asks for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from pixelglobal.data.checks.kinds import Suspect
from pixelglobal.data.checks.measure import Values
from pixelglobal.data.checks.scan import OFFSET_HU, has_stored_offset, suspects_of_grid
from pixelglobal.data.volumes import Volume, on_straight_axes, spacing_zyx


def fixed(volume: Volume, fixes: Collection[str]) -> Volume:
    """A scan with what was fixed in it, each with a remark.

    header: 1024 is subtracted from HU that were stored with 1024 added, and a spacing in metres becomes one in mm.
    resample: a scan whose axes are not at right angles is interpolated on ones that are. orientation: sagittal or
    coronal slices are interpolated to axial ones of square pixels. Labels are taken from the nearest voxel.
    """
    if "header" in fixes:
        volume = _with_offset_subtracted(_in_mm(volume))
    seen = _kinds_of_grid(volume)
    if "orientation" in fixes and "not_axial" in seen:
        finest = min(volume.spacing_mm[1:])
        volume = on_straight_axes(volume, (volume.spacing_mm[0], finest, finest))
        volume = _remark(volume, f"axial slices of {finest:.3g} mm were interpolated from sagittal or coronal ones")
    elif "resample" in fixes and "sheared" in seen:
        x, y, z = np.abs(np.diag(volume.affine)[:3])  # along the patient's axes, not along the sheared ones
        volume = on_straight_axes(volume, (float(z), float(y), float(x)))
        volume = _remark(volume, "the scan was interpolated on axes at right angles")
    return volume


def _kinds_of_grid(volume: Volume) -> set[str]:
    return {s.kind for s in _grid(volume)}


def _grid(volume: Volume) -> list[Suspect]:
    return [*suspects_of_grid(volume.case, volume.affine, volume.image_hu.shape, volume.spacing_mm)]


def _in_mm(volume: Volume) -> Volume:
    """With the affine in mm if it is in metres: then, and only then, the scan has a possible size."""
    if "spacing" not in _kinds_of_grid(volume):
        return volume
    affine = np.diag([1000.0, 1000.0, 1000.0, 1.0]) @ volume.affine
    in_mm = replace(volume, affine=affine, spacing_mm=spacing_zyx(affine))
    if "spacing" in _kinds_of_grid(in_mm):
        return volume
    return _remark(in_mm, "the spacing was in metres and is in mm now")


def _with_offset_subtracted(volume: Volume) -> Volume:
    if not has_stored_offset(Values.of(volume.image_hu)):
        return volume
    image_hu = np.clip(volume.image_hu, -OFFSET_HU, None) - np.int16(OFFSET_HU)
    return _remark(replace(volume, image_hu=image_hu), f"{OFFSET_HU} was subtracted from its values")


def _remark(volume: Volume, remark: str) -> Volume:
    return replace(volume, remarks=(*volume.remarks, remark))
