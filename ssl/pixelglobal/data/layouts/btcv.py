"""BTCV, "Beyond the Cranial Vault" (abdomen): `img/img0001.nii.gz` with `label/label0001.nii.gz`."""

from __future__ import annotations

from pathlib import Path

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case, Cohort, case_name, in_order
from pixelglobal.data.layouts.parts import label_beside

STRUCTURES = (
    "Spleen", "RightKidney", "LeftKidney", "Gallbladder", "Esophagus", "Liver", "Stomach", "Aorta", "InferiorVenaCava",
    "PortalAndSplenicVein", "Pancreas", "RightAdrenal", "LeftAdrenal",
)  # fmt: skip
PAIRS = (("LeftKidney", "RightKidney"), ("LeftAdrenal", "RightAdrenal"))
PLACES = ("img", "imagesTr", "Training/img", "RawData/Training/img", "averaged-training-images", "")
TEST_PLACES = ("imagesTs", "Testing/img", "RawData/Testing/img")


def matches(folder: Path) -> bool:
    """Whether there are images called imgNNNN."""
    return not (folder / "dataset.json").is_file() and bool(_images(folder, PLACES))


def read(folder: Path, settings: Prepare) -> Cohort:
    """The training scans with their labels; the test scans, whose labels were not published, are for pre-training."""
    training, test = _images(folder, PLACES), _images(folder, TEST_PLACES)
    notes = (f"{len(test)} test scans have no labels and are in the pre-training split only",) if test else ()
    cases = in_order(
        Case(name, name, path, _label(path, name))
        for path in [*training, *test]
        if (name := case_name(path)) is not None
    )
    return Cohort("BTCV", STRUCTURES, PAIRS, None, cases, notes=notes)


def _images(folder: Path, places: tuple[str, ...]) -> list[Path]:
    return [path for place in places for path in sorted((folder / place).glob("img[0-9]*")) if case_name(path)]


def _label(image: Path, name: str) -> Path | None:
    beside = image.parent
    folders = [beside, beside.parent / "label", beside.parent / "labels", beside.parent / "labelsTr"]
    found = (label_beside(image, folder, [name.replace("img", "label"), name]) for folder in folders)
    return next((path for path in found if path is not None), None)
