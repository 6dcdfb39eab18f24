"""nnU-Net raw folders: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, and `dataset.json` with `channel_names`.

Of several channels `CASE_0000`, `CASE_0001`, ... `prepare.channel` chooses one. The scans of `imagesTs` are the test
split if `labelsTs` has their labels, and else for pre-training. `prepare.split=fold_0` is that of `splits_final.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import ENDINGS, PUBLISHED, Case, Cohort, case_name
from pixelglobal.data.layouts.description import Description, read_description
from pixelglobal.data.layouts.msd import channel_notes
from pixelglobal.files import read_json_object

CHANNEL = re.compile(r"_(\d{4})$")


def matches(folder: Path) -> bool:
    """Whether there is a description that leaves the list of scans to the folders."""
    path = folder / "dataset.json"
    return path.is_file() and not read_json_object(path).get("training")


def read(folder: Path, settings: Prepare) -> Cohort:
    """The scans in `imagesTr` and `imagesTs`, each with its label file if it has one."""
    description = read_description(folder / "dataset.json")
    channels = description.entries.get("channel_names") or description.entries.get("modality") or {"0": "CT"}
    if not isinstance(channels, Mapping):
        raise ValueError(f'{description.path}: channel_names is {channels!r}; expected {{"0": "CT"}}')
    if len(channels) > 1 and settings.channel is None:
        raise ValueError(
            f"{description.path}: channel_names lists {', '.join(f'{n}: {name}' for n, name in channels.items())}; "
            "expected one CT channel. Choose one by its number, for example prepare.channel=0"
        )
    training = list(_scans(folder, "Tr", description, settings.channel or 0))
    test = list(_scans(folder, "Ts", description, settings.channel or 0))
    labelled = [case.case for case in test if case.label]
    held_out = dict.fromkeys(labelled, "test")
    notes = [*channel_notes(channels, settings.channel)]
    if labelled:
        notes.append(f"{len(labelled)} scans of imagesTs have labels and are the test split")
    if len(test) > len(labelled):
        notes.append(
            f"{len(test) - len(labelled)} scans of imagesTs have no labels and are in the pre-training split only"
        )
    divisions = {PUBLISHED: held_out} if held_out else {}
    folds = {name: {**fold, **held_out} for name, fold in _folds(folder / "splits_final.json").items()}
    return description.cohort([*training, *test], notes, {**divisions, **folds})


def _scans(folder: Path, part: str, description: Description, channel: int) -> Iterator[Case]:
    for image in sorted((folder / f"images{part}").glob("*")):
        if (name := case_name(image)) is not None:
            numbered = CHANNEL.search(name)
            if numbered and int(numbered.group(1)) != channel:
                continue
            name = CHANNEL.sub("", name)
            labels = [folder / f"labels{part}" / f"{name}{ending}" for ending in ENDINGS]
            label = next((path for path in labels if path.is_file()), None)
            yield Case(name, description.patient_of(name), image, label)


def _folds(path: Path) -> dict[str, dict[str, str]]:
    """Divisions by the name of the fold; none without the file."""
    if not path.is_file():
        return {}
    try:
        folds = json.loads(path.read_text())
        return {
            f"fold_{number}": {
                **dict.fromkeys(map(str, fold["train"]), "train"),
                **dict.fromkeys(map(str, fold["val"]), "validation"),
            }
            for number, fold in enumerate(folds)
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f'{path}: cannot be read ({type(error).__name__}: {error}); expected [{{"train": [...], "val": [...]}}] as '
            "nnU-Net writes it. Correct or remove it"
        ) from error
