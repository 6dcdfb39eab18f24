"""Voxels of a NIfTI file in slabs: its claims are checked before memory is taken, and gzip is read to its checksum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip  # reads gzip, with its checksum, three times as fast as the standard library

SLAB_BYTES = 2 << 20  # stays in the processor's cache while it is worked on
MOST_COMPRESSED = 1032  # no deflate stream holds more than this many times its own length


@dataclass(frozen=True)
class RawScan:
    """A scan on disk. `slabs()` yields its values [k, j, i] in file order, a few k at a time."""

    shape: tuple[int, int, int]  # (i, j, k)
    affine: np.ndarray  # float64 [4, 4] from (i, j, k) to RAS+ mm
    slabs: Callable[[], Iterator[np.ndarray]]


class Unusable(Exception):
    """A file that can be read and cannot be used; the message names it and says what to do."""


def open_nifti(path: Path, channel: int | None) -> RawScan:
    """The scan in a .nii or .nii.gz file, of which only the header is read yet; channel: which volume of a 4-D file.

    Raises Unusable for a file whose header claims more than the file can hold, gives voxels no place or is not 3-D;
    whatever nibabel raises for a damaged header. `slabs()` raises OSError or EOFError for damaged voxels.
    """
    source: Any = nib.load(path)
    shape = tuple(int(n) for n in source.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    volume = chosen_volume(path, shape, channel)
    header, voxels = source.header, source.dataobj
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        raise Unusable(
            f"{path}: its header says neither by sform nor by qform which side is left (both codes are 0); "
            "expected one of them. Convert the scan from its source again; left and right cannot be guessed"
        )
    dtype = np.dtype(voxels.dtype)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Unusable(f"{path}: its voxels are {dtype}; expected one whole or real number each. Export it as CT again")
    require_room(path, int(voxels.offset) + dtype.itemsize * int(np.prod(shape, dtype=object)))
    skipped = int(voxels.offset) + volume * dtype.itemsize * int(np.prod(shape[:3], dtype=object))

    def slabs() -> Iterator[np.ndarray]:
        i, j, k = shape[:3]
        step = max(1, SLAB_BYTES // max(1, i * j * dtype.itemsize))
        opened: Any = igzip  # has no types
        with opened.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            file.seek(skipped)
            for start in range(0, k, step):
                slab = np.empty((min(step, k - start), j, i), dtype)
                _fill(file, slab)
                yield _scaled(slab, float(voxels.slope), float(voxels.inter))
            while file.read(SLAB_BYTES):  # the checksum is behind the last byte
                pass

    return RawScan((shape[0], shape[1], shape[2]), np.asarray(source.affine, np.float64), slabs)


def chosen_volume(path: Path, shape: tuple[int, ...], channel: int | None) -> int:
    """Which volume of a file is read: 0 of a 3-D file, `channel` of a 4-D file. Raises Unusable for any other."""
    if min(shape, default=0) < 1:  # a damaged header may have a negative size
        raise Unusable(f"{path}: has shape {shape} and so no voxels; expected a 3-D scan. Export it again")
    if len(shape) == 3:
        return 0
    if len(shape) != 4 or channel is None:
        raise Unusable(
            f"{path}: has shape {shape}; expected one 3-D scan. Choose one volume of a 4-D file by its number, "
            "prepare.channel=0 for the first, or split the file into one scan and one case each"
        )
    if channel >= shape[3]:
        raise Unusable(f"{path}: has {shape[3]} channels; expected prepare.channel={channel} to be below that")
    return channel


def require_room(path: Path, claimed_bytes: int, held: Path | None = None) -> None:
    """Raise Unusable if a header claims more bytes than its file (or the file `held`) can hold, even compressed."""
    data = held or path
    size = data.stat().st_size
    most = size if path.name.endswith(".nii") else size * MOST_COMPRESSED
    if claimed_bytes > most:
        raise Unusable(
            f"{path}: its header claims {claimed_bytes:,} bytes of voxels, and a file of {size:,} bytes cannot "
            "hold them; the file is cut off or damaged. Copy it again"
        )


def _fill(file: Any, array: np.ndarray) -> None:
    left = array.data.cast("B")
    while left:
        n = file.readinto(left)
        if not n:
            raise EOFError(f"{left.nbytes} bytes are missing at its end")
        left = left[n:]


def _scaled(values: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """Values in HU; whole numbers stay what they are where there is no scale."""
    if (slope, inter) == (1.0, 0.0):
        return values
    return values * np.float64(slope) + np.float64(inter)
