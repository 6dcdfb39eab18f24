"""Layouts: cohorts as they are downloaded, and descriptions that cannot be right."""

import json
import shutil

import pytest

from pixelglobal.data import layouts
from pixelglobal.data.cohorts import Case, Cohort, in_order
from pixelglobal.data.layouts import layout_of, read_cohort


def describe(folder, **facts):
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_msd_layout(tmp_path):
    describe(
        tmp_path,
        name="My CT",
        labels={"0": "background", "2": "B", "1": "A"},
        left_right_pairs=[["A", "B"]],
        patients={"x_1": "x"},
        training=[
            {"image": "./imagesTr/x_1.nii.gz", "label": "./labelsTr/x_1.nii.gz"},
            {"image": "./imagesTr/._x_1.nii.gz", "label": "./labelsTr/._x_1.nii.gz"},
        ],
    )
    cohort = read_cohort(tmp_path)
    assert (cohort.name, cohort.structures, cohort.left_right_pairs) == ("My_CT", ("A", "B"), (("A", "B"),))
    assert [(c.case, c.patient) for c in cohort.cases] == [("x_1", "x")]


def test_nnunet_layout(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/._a_0000.nii.gz")
    describe(tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "kidney": 1}, file_ending=".nii.gz")
    cohort = read_cohort(tmp_path)
    assert [(c.case, c.label is not None) for c in cohort.cases] == [("a", True), ("b", False)]
    describe(tmp_path, channel_names={"0": "CT", "1": "PET"}, labels={"background": 0})
    with pytest.raises(ValueError, match=r"lists 0: CT, 1: PET; expected one CT channel\. Choose one by its number"):
        read_cohort(tmp_path)


def test_a_plain_folder_is_a_cohort_without_labels(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii", "notes.txt")
    cohort = read_cohort(tmp_path)
    assert [c.case for c in cohort.cases] == ["a", "b"]
    assert cohort.structures == ()


def test_descriptions_that_cannot_be_right(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        read_cohort(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"neither dataset\.json nor any scan"):
        read_cohort(tmp_path)
    with pytest.raises(ValueError, match="no scans found"):
        read_cohort(describe(tmp_path, labels={"0": "background"}, training=[]))
    with pytest.raises(ValueError, match="labels have no value 0; expected it for the background"):
        read_cohort(describe(tmp_path, labels={"a": 1, "b": 3}))
    with pytest.raises(ValueError, match="names 'Z', which is not a label"):
        read_cohort(describe(tmp_path, labels={"background": 0, "a": 1}, left_right_pairs=[["a", "Z"]]))
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_cohort(tmp_path)


SCAN = {"image": "imagesTr/a.nii.gz"}
LABELS = {"background": 0, "L": 1, "R": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": {"background": 0, "w": [1, 2]}},
            "regions of several values and regions_class_order is None; expected one value for each of the 1 regions",
        ),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "labels have the value 1 twice; expected a value of its own"),
        ({"labels": {"0": "background", "1": "A", "2": "A"}}, "labels name A twice"),
        ({"labels": {str(i): f"s{i}" for i in range(300)}}, "labels have the value 299; expected values up to 254"),
        ({"left_right_pairs": [["L", "R", "L"]]}, r"left_right_pairs is .*expected a list of pairs"),
        ({"left_right_pairs": ["LR"]}, "expected a list of pairs"),
        ({"left_right_pairs": [["L", "R"], ["R", "L"]]}, "names 'L' twice; a structure has one other side"),
        ({"absent_structures": "maybe"}, "absent_structures is 'maybe'; expected 'not_contoured' or 'absent'"),
        ({"patients": {"a.nii.gz": "p"}}, r"`patients` names a\.nii\.gz, .*none of them is a case.*such as a$"),
        ({"training": [{"img": "a.nii.gz"}]}, r"lists \{'img': 'a\.nii\.gz'\} as a scan; expected"),
        ({"training": [SCAN, {"image": "other/a.nii.gz"}]}, r"both called 'a'; expected a name of its own"),
        ({"unlabelled": ["imagesTr/a.nii.gz"]}, r"both called 'a'"),
    ],
)
def test_descriptions_that_cannot_be_meant(tmp_path, change, message):
    facts = {"labels": LABELS, "training": [SCAN], "left_right_pairs": [["L", "R"]]}
    assert len(read_cohort(describe(tmp_path, **facts)).cases) == 1
    with pytest.raises(ValueError, match=message):
        read_cohort(describe(tmp_path, **{**facts, **change}))


def test_one_name_for_two_files(tmp_path):
    touch(tmp_path, "a.nii.gz", "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii and .*a\.nii\.gz are both called 'a'"):
        read_cohort(tmp_path)
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a JSON list; expected an object"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(
    ("description", "layout"),
    [
        (None, "folder"),
        ({"labels": {"background": 0}, "training": [SCAN]}, "msd"),
        ({"labels": {"background": 0}, "channel_names": {"0": "CT"}, "numTraining": 1}, "nnunet"),
        ({"labels": {"background": 0}, "training": []}, "nnunet"),
    ],
)
def test_a_folder_has_one_layout(tmp_path, description, layout):
    touch(tmp_path, "a.nii.gz")
    if description is not None:
        describe(tmp_path, **description)
    assert layout_of(tmp_path) == layout


def test_a_layout_more_is_two_functions(tmp_path, monkeypatch):
    """The example in the docstring of the package."""

    class Ours:
        def matches(self, folder):
            return any(folder.glob("scan_*/ct.nii.gz"))

        def read(self, folder, settings):
            scans = sorted(folder.glob("scan_*/ct.nii.gz"))
            cases = in_order(Case(s.parent.name, s.parent.name, s, s.with_name("organs.nii.gz")) for s in scans)
            return Cohort("Our hospital", ("Kidney", "Tumour", "Cyst"), (), None, cases)

    touch(tmp_path, "scan_1/ct.nii.gz", "scan_0/ct.nii.gz")
    monkeypatch.setattr(layouts, "NAMED", {"ours": Ours(), **layouts.NAMED})
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "ours"
    assert [case.case for case in cohort.cases] == ["scan_0", "scan_1"]
    assert cohort.cases[0].label == tmp_path / "scan_0/organs.nii.gz"


def test_files_that_are_not_read_are_counted_with_the_reason_and_without_their_names(phantom_folder, tmp_path):
    folder = shutil.copytree(phantom_folder, tmp_path / "scans")
    assert not any("not read" in note for note in read_cohort(folder).notes)
    (folder / "imagesTr/Doe_seg.nii.gz").touch()
    (folder / "old").mkdir()
    (folder / "old/Doe.nii.gz").touch()
    [note] = [note for note in read_cohort(folder).notes if "not read" in note]
    assert note.startswith("2 files in the formats of scans are not read: 1 are masks by their names, 1 are no scan")
    assert "Doe" not in note
