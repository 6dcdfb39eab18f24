"""Pictures (PNG, JPEG, TIFF) in a folder `images`, with a mask of the same name in a folder `masks`.

Pictures in a folder of their own inside `images` are of one patient, who is called like this folder; any other picture
is its own patient. Without a folder `images`, the folder itself is it, and nothing has a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort, LabelCode, in_order
from pixelglobal.data.pictures import INTENSITY_RANGE, picture_name, read_header, read_mask, read_picture
from pixelglobal.data.volumes import Volume


def matches(folder: Path) -> bool:
    """Whether pictures are in `images`, or in the folder itself, without a description."""
    return not (folder / "dataset.json").is_file() and bool(_found(_images(folder)))


def read(folder: Path, settings: Prepare) -> Cohort:
    """Every picture with its mask; prepare.structures names the values 1, 2, 3, ... of the masks."""
    default = Prepare()
    if (settings.hu_min, settings.hu_max) != (default.hu_min, default.hu_max):
        raise ValueError("prepare.hu_min and prepare.hu_max are for CT; pictures have the range of their file's type")
    pictures, masks = _found(_images(folder)), _found(folder / "masks")
    if masks and not settings.structures:
        raise ValueError(
            f"{folder / 'masks'} holds masks and prepare.structures is not given; expected the names of their values "
            '1, 2, 3, ..., such as prepare.structures=["Nucleus"]'
        )
    if stray := sorted(masks.keys() - pictures.keys()):
        raise ValueError(f"{masks[stray[0]]}: is the mask of no picture; expected one called {stray[0]} in `images`")
    cases = in_order(
        Case("_".join(name.split("/")), name.split("/")[0], path, masks.get(name)) for name, path in pictures.items()
    )
    bare = len(pictures) - len(masks)
    notes = [f"{bare} pictures have no mask and are in the pre-training split only"] if masks and bare else []
    structures = settings.structures if masks else ()
    return pictures_cohort(folder.name, cases, settings.channel, structures, tuple(notes))


def pictures_cohort(
    name: str,
    cases: tuple[Case, ...],
    channel: int | None = None,
    structures: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Cohort:
    """The cohort of some pictures: of three channels if one of them is in colour and no channel is chosen."""
    colours = 1
    if channel is None:
        colours = max((_channels_or_one(case.image) for case in cases), default=1)
    return Cohort(
        name, structures, (), "absent", cases, notes=notes, load=partial(load_picture, channels=colours),
        channels=colours, intensity_range=INTENSITY_RANGE,
    )  # fmt: skip


def load_picture(case: Case, code: LabelCode, channel: int | None, *, channels: int) -> Volume:
    """A picture as a scan of one slice: int16 [1, H, W], or [1, 3, H, W] in colour."""
    if channel is not None and read_header(case.image).channels == 3:
        if channel > 2:
            raise ValueError(f"{case.image}: has 3 channels; expected prepare.channel={channel} to be below that")
        image = read_picture(case.image, 3)[channel]
    else:
        image = read_picture(case.image, channels)
    labels = None
    if case.label is not None:
        labels = read_mask(case.label, (image.shape[-2], image.shape[-1]), len(code.structures))[None]
    return Volume(image[None], labels, (1.0, 1.0, 1.0), np.eye(4), case.case, case.patient)


def _images(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def _found(folder: Path) -> Mapping[str, Path]:
    """{name: file}, the name with that of the picture's own folder before it if it has one."""
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if (stem := picture_name(path)) is not None and path.is_file():
            name = "/".join([*path.relative_to(folder).parent.parts, stem])
            if name in found:
                raise ValueError(f"{found[name]} and {path} have one name; expected one file for each picture")
            found[name] = path
    return found


def _channels_or_one(path: Path) -> int:
    try:
        return read_header(path).channels
    except ValueError:  # it is left out with this reason when its pixels are read
        return 1
