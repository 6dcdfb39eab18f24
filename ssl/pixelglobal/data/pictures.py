"""Pictures in PNG, JPEG and TIFF files: intensities on one range for every type of file, and label masks.

A picture is a scan of one slice. Its intensities go from 0, the least value of the file's type, to 32767, its greatest
(255 of 8 bits, 65535 of 16 bits, 1.0 of floating point), so that files of several types fit one cohort; of 16 bits the
lowest is lost. Rows run from top to bottom as in the file. A pixel counts as 1 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pixelglobal.files import write_file

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
INTENSITY_RANGE = (0, 32767)
GREATEST = {"1": 1, "L": 255, "RGB": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535, "F": 1}
AS_RGB = ("P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")  # read as colours; transparency is dropped
AS_GREY = ("LA", "La")


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are read."""

    mode: str  # of Pillow
    shape: tuple[int, int]  # rows and columns

    @property
    def channels(self) -> int:
        """3 of a colour picture, otherwise 1."""
        return 3 if self.mode == "RGB" or self.mode in AS_RGB else 1


def picture_name(path: Path) -> str | None:
    """The name of a picture without its ending; None for other and hidden files.

    >>> [picture_name(Path(name)) for name in ("cell_1.png", "cell_2.TIFF", "cell_1.nii.gz", "._cell_1.png")]
    ['cell_1', 'cell_2', None, None]
    """
    return path.stem if path.suffix.lower() in ENDINGS and not path.name.startswith(".") else None


def read_header(path: Path) -> Header:
    """The header of a picture. Raises ValueError if the file is none, or holds several pictures."""
    with _opened(path) as picture:
        return Header(picture.mode, (picture.height, picture.width))


def read_picture(path: Path, channels: int) -> np.ndarray:
    """Intensities int16 from 0 to 32767, [H, W] for one channel and [3, H, W] for three, into which grey is repeated.

    Raises ValueError, naming the file, for a damaged file, for several pictures in one file, for a colour picture where
    one channel is wanted, and for values outside of the range of the file's type.
    """
    values, mode = _pixels(path)
    greatest = GREATEST[mode]
    lowest, highest = (values.min(), values.max()) if values.size else (0, 0)
    if not (np.isfinite(lowest) and np.isfinite(highest) and lowest >= 0 and highest <= greatest):
        raise ValueError(
            f"{path}: holds values from {lowest:g} to {highest:g}; expected 0 to {greatest} in a picture of Pillow's "
            f"mode {mode}. Save it with 8 or 16 bits a channel, or scale it to that range"
        )
    scaled = np.rint(values.astype(np.float64) * (INTENSITY_RANGE[1] / greatest)).astype(np.int16)
    if scaled.ndim == 3:
        if channels == 1:
            raise ValueError(f"{path}: is a colour picture; expected grey ones. Choose a channel, prepare.channel=0")
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))
    return scaled if channels == 1 else np.repeat(scaled[None], channels, 0)


def read_mask(path: Path, shape: tuple[int, int], n_structures: int) -> np.ndarray:
    """Labels uint8 [H, W], 0 for background and i + 1 for the i-th structure, of a mask with one value a pixel.

    A mask of one structure may also have 255 in place of 1. Raises ValueError, naming the file, for another size than
    that of the picture, for colours, for a JPEG file, whose values are not exact, and for values that are not expected.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise ValueError(f"{path}: is a JPEG file, which changes values at borders; expected a mask in PNG or TIFF")
    with _opened(path) as picture:
        values = np.asarray(picture)  # of a palette its indices
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise ValueError(f"{path}: is a colour picture; expected a mask with one value a pixel. Save it as grey values")
    if values.shape != shape:
        raise ValueError(
            f"{path}: has {values.shape[0]} x {values.shape[1]} pixels, and its picture {shape[0]} x {shape[1]}; "
            "expected the same size"
        )
    seen = set(np.unique(values).tolist())
    if n_structures == 1 and 255 in seen and seen <= {0, 255}:
        return np.asarray(values == 255, np.uint8)
    if not seen <= set(range(n_structures + 1)):
        wrong = ", ".join(f"{value:g}" for value in sorted(seen - set(range(n_structures + 1)))[:5])
        raise ValueError(
            f"{path}: holds label values {wrong}; expected whole numbers from 0 to {n_structures}. Correct the file, "
            "or name the missing structures in prepare.structures"
        )
    return values.astype(np.uint8)


def write_label_picture(path: Path, labels: np.ndarray) -> None:
    """Write labels [H, W] as a PNG file of 8 bits, whole or not at all."""
    write_file(path, lambda scratch: Image.fromarray(labels.astype(np.uint8)).save(scratch, format="PNG"))


def write_map_picture(path: Path, values: np.ndarray) -> None:
    """Write values [H, W] as a TIFF file of float32, whole or not at all."""
    write_file(path, lambda scratch: Image.fromarray(values.astype(np.float32)).save(scratch, format="TIFF"))


def _opened(path: Path) -> Image.Image:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; check that the copy is complete")
    try:
        picture = Image.open(path)
    except Exception as error:  # Pillow has several for what it cannot read
        raise _damaged(path, error) from error
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        raise ValueError(f"{path}: holds {frames} pictures; expected one in a file. Save each as a file of its own")
    return picture


def _pixels(path: Path) -> tuple[np.ndarray, str]:
    """Pixels [H, W] or [H, W, 3] and the mode that tells their range."""
    with _opened(path) as picture:
        mode = "RGB" if picture.mode in AS_RGB else "L" if picture.mode in AS_GREY else picture.mode
        if mode not in GREATEST:
            raise ValueError(f"{path}: has Pillow's mode {mode}; expected grey values or colours. Save it as PNG")
        try:
            return np.asarray(picture if picture.mode == mode else picture.convert(mode)), mode
        except Exception as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: cannot be read ({type(error).__name__}: {error}); the file is damaged or no picture that Pillow "
        "knows, such as PNG, JPEG or TIFF. Copy it again"
    )
