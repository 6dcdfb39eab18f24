"""Cohorts: the layouts people have, splits by patient, and descriptions that cannot be right."""

import json

import pytest

from pixelglobal.cohorts import Case, read_cohort, read_splits, refuse_shared_patients, split_cases


def describe(folder, **facts):
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def cases(n, per_patient=1, unlabelled=0):
    from pathlib import Path

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
    everyone = cases(4, per_patient=2)
    good = {"train": ["c0_0"], "validation": ["c1_0"], "test": ["c2_0", "c2_1"], "pretrain_pool": ["c0_0", "c3_0"]}
    path.write_text(json.dumps({**good, "structures_complete": ["a"]}))
    splits = read_splits(path, everyone)
    assert splits.pretrain == ("c0_0", "c3_0")
    for change, message in (
        ({"train": ["c9_9"]}, "names 1 cases that the cohort does not have: c9_9"),
        ({"test": []}, "the list 'test' is missing or empty"),
        ({"validation": ["c0_1"]}, "1 with the same patient are in both train and validation: c0_0 and c0_1"),
        ({"pretrain_pool": ["c2_0"]}, "in both pretrain and test"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match=message):
            read_splits(path, everyone)
