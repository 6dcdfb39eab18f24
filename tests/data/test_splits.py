"""Splits: divided by patient and by the seed, or read from a file, and never with one patient on two sides."""

import json
from pathlib import Path

import pytest

from pixelglobal.data.cohorts import Case
from pixelglobal.data.splits import read_splits, refuse_shared_patients, split_cases


def cases(n, per_patient=1, unlabelled=0):
    drawn = [Case(f"c{i}_{k}", f"p{i}", Path("i"), Path("l")) for i in range(n) for k in range(per_patient)]
    return drawn + [Case(f"u{i}", f"u{i}", Path("i"), None) for i in range(unlabelled)]


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


def test_a_cohort_may_be_for_testing_or_for_fine_tuning_alone(tmp_path):
    tested = split_cases(cases(5, unlabelled=2), train_fraction=0, validation_fraction=0, seed=0)
    assert (len(tested.test), tested.train, tested.validation) == (5, (), ())
    assert set(tested.pretrain) == {"u0", "u1"}
    tuned = split_cases(cases(5), train_fraction=0.7, validation_fraction=0.3, seed=0)
    assert (len(tuned.train), len(tuned.validation), tuned.test) == (3, 2, ())
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": [], "validation": [], "test": ["c0_0"]}))
    assert read_splits(path, cases(5)).test == ("c0_0",)
    path.write_text(json.dumps({"train": ["c1_0"], "validation": ["c2_0"], "test": []}))
    assert read_splits(path, cases(5)).test == ()


def test_split_files(tmp_path):
    path = tmp_path / "splits.json"
    everyone = cases(4, per_patient=2, unlabelled=1)
    good = {"train": ["c0_0"], "validation": ["c1_0"], "test": ["c2_0", "c2_1"], "pretrain_pool": ["c0_0", "c3_0"]}
    path.write_text(json.dumps({**good, "structures_complete": ["a"]}))
    splits = read_splits(path, everyone)
    assert splits.pretrain == ("c0_0", "c3_0")
    for change, message in (
        ({"train": ["c9_9"]}, "names 1 cases that the cohort does not have: c9_9"),
        ({"test": None}, "the list 'test' is missing"),
        ({"test": [7, None]}, r"'test' is \[7, None\]; expected a list of names of cases"),
        ({"pretrain": "all"}, "'pretrain' is all; expected a list of names of cases"),
        ({"validation": []}, "of the lists 'train' and 'validation' one is empty"),
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
