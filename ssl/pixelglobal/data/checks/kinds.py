"""The kinds of things that are probably wrong with a case, each with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What suspects of one kind share: words for it, and what to do."""

    words: str
    advice: str


KINDS: dict[str, Kind] = {
    "not_hu": Kind(
        "values that are not HU",
        "Convert the scan from its source again, without scaling; leave MR out.",
    ),
    "stored_offset": Kind(
        "HU that are stored with 1024 added",
        "Prepare with --fix header, which subtracts 1024, or apply the RescaleIntercept when you convert the scan.",
    ),
    "no_body": Kind("no body: constant or all air", "Copy the scan again, and look at where the patient lies in it."),
    "extreme_hu": Kind(
        "single values that no CT has",
        "They are clipped. If they are not metal or filling outside the scanner's circle, convert the scan again.",
    ),
    "spacing": Kind(
        "a size that no scan of a patient has",
        "Write the spacing in mm into the header; if it is in metres, prepare with --fix header.",
    ),
    "sheared": Kind(
        "axes that are not at right angles",
        "Prepare with --fix resample; without it the slices stay as they were scanned (a tilted gantry).",
    ),
    "not_axial": Kind(
        "sagittal or coronal slices",
        "Prepare with --fix orientation, which interpolates axial slices, or leave the scan out.",
    ),
    "empty_labels": Kind("labels without a labelled voxel", "Complete the labels, or list the scan without them."),
    "crop": Kind(
        "structures that touch the crop or are cut by it",
        "Enlarge prepare.image_size, or set a coarser prepare.in_plane_spacing_mm.",
    ),
    "swapped": Kind(
        "left and right the other way round than in most cases",
        "Compare with the source: the image or its labels are mirrored, or names are exchanged.",
    ),
    "unusual_size": Kind("structures of unusual size", "Look at the contour and at the patient."),
    "unusual_hu": Kind("structures of unusual HU", "Look at the contour, and at contrast agent and metal."),
    "near_duplicate": Kind(
        "scans that are nearly the same as another patient's",
        "Give both one name under `patients` in dataset.json, or name one in quarantine.csv.",
    ),
}
ORDER = list(KINDS)  # the worst first


@dataclass(frozen=True)
class Suspect:
    """One thing that is probably wrong with one case: its kind, and what was seen, with numbers."""

    case: str
    kind: str
    seen: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of suspect; expected one of {', '.join(KINDS)}")
