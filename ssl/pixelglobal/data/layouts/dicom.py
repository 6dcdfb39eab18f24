"""DICOM exports: CT series in folders of any nesting, with structures in RTSTRUCT or SEG files that refer to them.

`prepare.roi_names=names.json` says which ROIs are which structure, {"Bladder": ["bladder", "blase*"]}; where structures
overlap, the later one counts. Without it every ROI is a structure. A structure without a ROI was not contoured.
Localisers and other modalities are not read. Needs the extra `dicom`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort, LabelCode, in_order
from pixelglobal.data.volumes import Volume, spacing_zyx, to_canonical
from pixelglobal.files import read_json_object

MOST_FILES_LOOKED_AT = 200
TAGS = [
    "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType", "PatientID", "SeriesNumber",
    "NumberOfFrames", "ReferencedFrameOfReferenceSequence", "ReferencedSeriesSequence", "StructureSetROISequence",
    "RTROIObservationsSequence", "SegmentSequence", "StructureSetDate", "StructureSetTime", "ContentDate",
    "ContentTime",
]  # fmt: skip


def matches(folder: Path) -> bool:
    """Whether one of the first files of the tree is DICOM."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return not (folder / "dataset.json").is_file() and any(map(_is_dicom, islice(files, MOST_FILES_LOOKED_AT)))


def read(folder: Path, settings: Prepare) -> Cohort:
    """Every CT series as a case of its patient, with the newest structures that refer to it."""
    export = _scan(folder)
    roi_names = _roi_names(settings.roi_names)
    found = {name for _, names in export.structures.values() for name in names}
    structures = tuple(roi_names) if roi_names else tuple(sorted(found))
    if len(structures) > 255:
        raise ValueError(
            f"{folder}: the structure sets name {len(structures)} ROIs; name up to 254 by prepare.roi_names=names.json"
        )
    cases = in_order(_cases(export))
    others = [f"{count} files of the modality {name} are not read" for name, count in sorted(export.ignored.items())]
    load = partial(load_dicom, roi_names=roi_names)
    name = re.sub(r"\W+", "_", folder.name)
    return Cohort(name, structures, (), None, cases, notes=(*export.notes, *others), load=load)


def load_dicom(
    case: Case, code: LabelCode, channel: int | None, *, roi_names: Mapping[str, list[str]] | None = None
) -> Volume:
    """A series in canonical orientation with its structures; ValueError as in `data.dicom`."""
    from pixelglobal.data.dicom import LPS_TO_RAS, read_series, read_structures

    hu, affine, remarks = read_series(case.series)
    image_hu, canonical = to_canonical(hu, LPS_TO_RAS @ affine)
    labels, looked_for = None, None
    if case.label is not None:
        drawn, looked_for, more = read_structures(case.label, roi_names, code.structures, affine, hu.shape)
        labels, remarks = to_canonical(drawn, LPS_TO_RAS @ affine)[0], [*remarks, *more]
    return Volume(
        image_hu, labels, spacing_zyx(canonical), canonical, case.case, case.patient, looked_for, tuple(remarks)
    )


@dataclass
class _Export:
    """What the headers of a tree of files say."""

    series: dict[str, dict[str, Path]] = field(default_factory=lambda: defaultdict(dict))  # {series: {image: file}}
    patient: dict[str, str] = field(default_factory=dict)  # {series: patient}
    number: dict[str, int] = field(default_factory=dict)  # {series: SeriesNumber}
    structures: dict[Path, tuple[set[str], list[str]]] = field(default_factory=dict)  # {file: (series, ROI names)}
    newest: dict[Path, str] = field(default_factory=dict)  # {file: date and time}
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def _scan(folder: Path) -> _Export:
    try:
        import pydicom

        from pixelglobal.data.dicom import roi_names_in
    except ImportError:
        raise ValueError(
            f"{folder}: DICOM is read by pydicom and highdicom, which are not installed; "
            "run: pip install 'pixelglobal[dicom]'"
        ) from None
    export, counts, frames = _Export(), Counter[str](), defaultdict(set)
    loose: dict[Path, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and _is_dicom(p)):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            modality, series = str(header.get("Modality", "unknown")), str(header.get("SeriesInstanceUID", path.parent))
            if modality == "CT" and "LOCALIZER" in [str(v).upper() for v in header.get("ImageType") or ()]:
                counts["localisers are not read"] += 1
            elif modality == "CT" and int(header.get("NumberOfFrames") or 1) > 1:
                counts["multi-frame CT files are not read; export them as classic CT images"] += 1
            elif modality == "CT":
                image = str(header.get("SOPInstanceUID", path))
                counts["files are copies of an image and are not read"] += image in export.series[series]
                export.series[series].setdefault(image, path)
                export.patient[series] = _patient(header, path)
                export.number[series] = int(header.get("SeriesNumber") or 0)
                frames[str(header.get("FrameOfReferenceUID"))].add(series)
            elif modality in ("RTSTRUCT", "SEG"):
                export.structures[path] = _referred(header), roi_names_in(header)
                export.newest[path] = _time(header)
                loose[path] = str(header.get("FrameOfReferenceUID") or _frame(header))
            else:
                export.ignored[modality] += 1
        except Exception:  # pydicom has many errors for damaged headers
            counts["files have a damaged DICOM header and are not read"] += 1
    for path, (referred, names) in export.structures.items():
        if not referred & export.series.keys() and len(frames[loose[path]]) == 1:
            export.structures[path] = frames[loose[path]], names
    export.notes = [f"{count} {what}" for what, count in counts.items() if count]
    return export


def _cases(export: _Export) -> list[Case]:
    by_patient: dict[str, list[str]] = defaultdict(list)
    for series in sorted(export.series, key=lambda s: (export.number[s], s)):
        by_patient[export.patient[series]].append(series)
    cases = []
    for patient, several in by_patient.items():
        for number, series in enumerate(several, 1):
            files = tuple(export.series[series].values())
            drawn = sorted(
                (export.newest[p], p) for p, (referred, _) in export.structures.items() if series in referred
            )
            name = patient if len(several) == 1 else f"{patient}_{number}"
            cases.append(Case(name, patient, files[0], drawn[-1][1] if drawn else None, files))
            if len(drawn) > 1:
                export.notes.append(f"{name} has {len(drawn)} structure sets; the newest is read")
    return cases


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _patient(header: Any, path: Path) -> str:
    return re.sub(r"[^\w.-]+", "_", str(header.get("PatientID") or "")).strip("._") or path.parent.name


def _referred(header: Any) -> set[str]:
    """The series that an RTSTRUCT or SEG names."""
    frames = header.get("ReferencedFrameOfReferenceSequence", ())
    studies = (study for frame in frames for study in frame.get("RTReferencedStudySequence", ()))
    series = [one for study in studies for one in study.get("RTReferencedSeriesSequence", ())]
    return {str(one.SeriesInstanceUID) for one in [*series, *header.get("ReferencedSeriesSequence", ())]}


def _frame(header: Any) -> str:
    frames = header.get("ReferencedFrameOfReferenceSequence", ())
    return str(frames[0].get("FrameOfReferenceUID")) if frames else "none"


def _time(header: Any) -> str:
    names = ("StructureSetDate", "StructureSetTime", "ContentDate", "ContentTime")
    return "".join(str(header.get(name) or "") for name in names)


def _roi_names(path: str | None) -> dict[str, list[str]] | None:
    if path is None:
        return None
    names = read_json_object(Path(path))
    for structure, several in names.items():
        if not isinstance(several, list) or not all(isinstance(name, str) for name in several):
            raise ValueError(
                f"{path}: the names of {structure} are {several!r}; expected a list of names, "
                '{"Bladder": ["bladder", "blase*"]}'
            )
    return names
