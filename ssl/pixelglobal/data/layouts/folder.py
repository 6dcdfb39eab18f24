"""Any other folder: scans that lie in it, or that a pattern finds, with labels that another pattern finds.

`prepare.images="*/{case}/ct.nrrd" prepare.labels="*/{case}/organs.nrrd" prepare.structures=["Liver","Spleen"]`: `*`
stands for any name, and `{case}` for the name of the case, which is the same in both.
"""

from __future__ import annotations

import re
from pathlib import Path

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort, case_name, in_order, is_mask


def matches(folder: Path) -> bool:
    """Whether scans lie in the folder without a description."""
    return not (folder / "dataset.json").is_file() and any(case_name(path) for path in folder.glob("*"))


def read(folder: Path, settings: Prepare) -> Cohort:
    """Every scan that the patterns find; without a pattern, every scan of the folder as one without labels."""
    labels: dict[str, Path] = {}
    if settings.images:
        images = find(folder, settings.images, "prepare.images")
        labels = find(folder, settings.labels, "prepare.labels") if settings.labels else {}
        masks: list[str] = []
    else:
        files = {path: name for path in sorted(folder.glob("*")) if (name := case_name(path)) is not None}
        masks = [name for name in files.values() if is_mask(name)]
        scans = in_order(Case(name, name, path, None) for path, name in files.items() if name not in masks)
        images = {case.case: case.image for case in scans}
    if not images:
        raise ValueError(
            f"{folder}: neither dataset.json nor any scan (.nii, .nii.gz, .nrrd, .mha or .mhd); expected a layout of "
            "docs/reference/layouts.md, scans, or prepare.images with a pattern"
        )
    if labels and not settings.structures:
        raise ValueError('prepare.labels is given and prepare.structures is not; expected names, ["Liver","Spleen"]')
    notes = []
    if masks:
        notes.append(f"{len(masks)} files are masks by their names, such as *_seg, and are not read as scans")
    if settings.labels and (bare := len(images.keys() - labels.keys())):
        notes.append(f"{bare} scans have no labels and are in the pre-training split only")
    cases = in_order(Case(name, name, path, labels.get(name)) for name, path in images.items())
    return Cohort(folder.name, settings.structures, (), None, cases, notes=tuple(notes))


def find(folder: Path, pattern: str, setting: str) -> dict[str, Path]:
    """{case: file} of a pattern with `{case}` in it. Raises ValueError if it has none, or if two files are one case."""
    if "{case}" not in pattern:
        raise ValueError(f'{setting}={pattern!r} names no case; expected {{case}} in it, "*/{{case}}/ct.nii.gz"')
    first, *rest = (
        "/".join(re.escape(part).replace(r"\*", "[^/]*") for part in text.split("/"))
        for text in pattern.split("{case}")
    )
    shape = re.compile(first + "(?P<case>[^/]+)" + "(?P=case)".join(rest))
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(pattern.replace("{case}", "*"))):
        if name := shape.fullmatch(path.relative_to(folder).as_posix()):
            case = name.group("case")
            if case in found:
                raise ValueError(
                    f"{setting}={pattern!r} finds {found[case]} and {path} for the case {case!r}; expected one"
                )
            found[case] = path
    return found
