"""Cohorts: the layouts people have, splits by patient, and descriptions that cannot be right."""

import json
from pathlib import Path

import pytest

from pixelglobal.data.cohorts import Case, read_cohort
from pixelglobal.data.splits import read_splits, refuse_shared_patients, split_cases


def describe(folder, **facts):
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def cases(n, per_patient=1, unlabelled=0):
    drawn = [Case(f"c{i}_{k}", f"p{i}", Path("i"), Path("l")) for i in range(n) for k in range(per_patient)]
    return drawn + [Case(f"u{i}", f"u{i}", Path("i"), None) for i in range(unlabelled)]


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
    with pytest.raises(ValueError, match="expected one CT channel"):
        read_cohort(tmp_path)


def test_a_plain_folder_is_a_cohort_without_labels(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii", "notes.txt")
    cohort = read_cohort(tmp_path)
    assert [c.case for c in cohort.cases] == ["a", "b"]
    assert cohort.structures == ()


def test_descriptions_that_cannot_be_right(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        read_cohort(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"neither dataset\.json nor any \.nii"):
        read_cohort(tmp_path)
    with pytest.raises(ValueError, match="no scans found"):
        read_cohort(describe(tmp_path, labels={"0": "background"}, training=[]))
    with pytest.raises(ValueError, match=r"values \[0, 1, 3\]; expected 0 \(background\), 1, 2"):
        read_cohort(describe(tmp_path, labels={"background": 0, "a": 1, "b": 3}))
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
        ({"labels": {"background": 0, "w": [1, 2]}}, r"label 'w' has the value \[1, 2\]; expected one whole number"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, r"values \[0, 1, 1\].*without gaps or repeats"),
        ({"labels": {"0": "background", "1": "A", "2": "A"}}, "labels name A twice"),
        ({"labels": {str(i): f"s{i}" for i in range(300)}}, "names 299 structures; expected at most 255"),
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


def test_unlabelled_scans_of_tested_patients_are_left_out_of_pre_training():
    everyone = [*cases(4), Case("more0", "p0", Path("i"), None), Case("more1", "p1", Path("i"), None)]
    for seed in range(6):
        splits = split_cases(everyone, train_fraction=0.4, validation_fraction=0.1, seed=seed)
        refuse_shared_patients(splits, {c.case: c.patient for c in everyone}, "patient")
        for k in (0, 1):
            assert (f"more{k}" in splits.pretrain) == (f"c{k}_0" in splits.train)


def test_splits_follow_the_seed_and_never_divide_a_patient():
    everyone = cases(20, per_patient=2, unlabelled=5)
    a, b, c = (split_cases(everyone, train_fraction=0.4, validation_fraction=0.1, seed=s) for s in (0, 0, 1))
    assert a == b
    assert a != c
    assert (len(a.train), len(a.validation), len(a.test)) == (16, 4, 20)
    assert set(a.pretrain) == {*a.train, *(f"u{i}" for i in range(5))}
    refuse_shared_patients(a, {x.case: x.patient for x in everyone}, "patient")


def test_two_patients_cannot_be_split():
    with pytest.raises(ValueError, match=r"2 labelled patients cannot be divided.*expected 3 or more"):
        split_cases(cases(2), train_fraction=0.4, validation_fraction=0.1, seed=0)


def test_split_files(tmp_path):
    path = tmp_path / "splits.json"
    everyone = cases(4, per_patient=2, unlabelled=1)
    good = {"train": ["c0_0"], "validation": ["c1_0"], "test": ["c2_0", "c2_1"], "pretrain_pool": ["c0_0", "c3_0"]}
    path.write_text(json.dumps({**good, "structures_complete": ["a"]}))
    splits = read_splits(path, everyone)
    assert splits.pretrain == ("c0_0", "c3_0")
    for change, message in (
        ({"train": ["c9_9"]}, "names 1 cases that the cohort does not have: c9_9"),
        ({"test": []}, "the list 'test' is missing or empty"),
        ({"validation": ["c0_1"]}, "1 with the same patient are in both train and validation: c0_0 and c0_1"),
        ({"pretrain_pool": ["c2_0"]}, "in both pretrain and test"),
        ({"test": ["u0"]}, "test names 1 cases without labels: u0; expected them in `pretrain` only"),
        ({"train": ["c0_0", "c0_1", "c0_0"]}, "train names c0_0 more than once"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match=message):
            read_splits(path, everyone)
    path.write_text(json.dumps([good]))
    with pytest.raises(
        ValueError, match=r"prepare\.split_file: .* holds a JSON list; expected an object.*'validation'"
    ):
        read_splits(path, everyone)
    with pytest.raises(ValueError, match=r"nowhere\.json: cannot be read"):
        read_splits(tmp_path / "nowhere.json", everyone)
