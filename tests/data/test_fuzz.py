"""Descriptions and headers that nobody would write: each is read, or refused in one sentence that names the file."""

import gzip
import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelglobal.config.schema import Prepare
from pixelglobal.data.cohorts import Case
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.splits import read_splits
from pixelglobal.data.volumes import read_volume
from tests.fuzz import JSON, refused_by_name

pytestmark = pytest.mark.slow


EXAMPLES = settings(max_examples=2000, deadline=None)

LABELS = st.dictionaries(st.sampled_from(["background", "a", "b", "ignore", "0", "1"]), JSON, max_size=4)
SCANS = st.lists(
    st.sampled_from(["a.nii.gz", "b.nii.gz"]) | st.fixed_dictionaries({"image": JSON, "label": JSON}) | JSON
)
DESCRIPTIONS = st.fixed_dictionaries(
    {"labels": LABELS | JSON},
    optional={
        "training": SCANS | JSON, "unlabelled": SCANS | JSON, "patients": JSON, "left_right_pairs": JSON, "name": JSON,
        "absent_structures": JSON, "channel_names": JSON, "modality": JSON, "regions_class_order": JSON,
    },
)  # fmt: skip


@EXAMPLES
@given(DESCRIPTIONS, JSON)
def test_any_dataset_json_and_any_folds(description, folds):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "imagesTr").mkdir()
        (folder / "imagesTr/a_0000.nii.gz").touch()
        (folder / "dataset.json").write_text(json.dumps(description))
        (folder / "splits_final.json").write_text(json.dumps(folds))
        with refused_by_name(scratch):
            read_cohort(folder, Prepare(channel=0))


@EXAMPLES
@given(st.dictionaries(st.sampled_from(["train", "validation", "test", "pretrain"]), JSON) | JSON)
def test_any_split_file(lists):
    cases = [Case(name, name, Path("i"), Path("l")) for name in ("a", "b", "0")]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "splits.json"
        path.write_text(json.dumps(lists))
        with refused_by_name(scratch, "prepare.split_file"):
            read_splits(path, cases)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 359), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_any_nifti_header(changes, compressed):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1.0, 1, 2, 1]))
    content = bytearray(image.to_bytes())
    for position, value in changes:
        content[position] = value
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / ("a.nii.gz" if compressed else "a.nii")
        path.write_bytes(gzip.compress(content) if compressed else content)
        with refused_by_name(path):
            read_volume(path, case="a", patient="a")
