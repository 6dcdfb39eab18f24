"""Public cohorts in the layouts in which they are downloaded: small files with each one's names, values and headers."""

import json

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from pixelglobal.config.schema import Prepare
from pixelglobal.data.layouts import layout_of, read_cohort
from pixelglobal.data.prepare import leave_out, prepare
from pixelglobal.data.splits import split_cases
from pixelglobal.data.volumes import UNKNOWN_LABEL
from pixelglobal.evaluation.labelled_scans import scans_of_store

RNG = np.random.default_rng(0)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
# Scans of noise or of one value are no CT.
SMALL = Prepare(keep_ids=True, image_size=32, train_fraction=0.4, validation_fraction=0.2, quarantine=())


def write(path, values=None, affine=AFFINE):
    """A CT of noise, or labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RNG.normal(0, 100, (12, 12, 4)).astype(np.int16) if values is None else values
    nib.save(nib.Nifti1Image(image, affine), path)


def boxes(*values):
    """Labels with a box of each value."""
    labels = np.zeros((12, 12, 4), np.uint8)
    for i, value in enumerate(values):
        labels[2 * i : 2 * i + 2, 4:8, 1:3] = value
    return labels


def prepared(folder, tmp_path, **settings):
    made = prepare(folder, tmp_path / "store", SMALL.model_copy(update=settings))
    assert not made.quarantined, made.quarantined
    return made.store


def describe(folder, **facts):
    (folder / "dataset.json").write_text(json.dumps(facts))


def test_msd_reads_images_ts_and_says_so(tmp_path):
    folder = tmp_path / "Task07"
    for i in range(4):
        write(folder / f"imagesTr/pancreas_{i}.nii.gz")
        write(folder / f"labelsTr/pancreas_{i}.nii.gz", boxes(1, 2))
        write(folder / f"imagesTs/pancreas_9{i}.nii.gz")
    (folder / "imagesTs/._pancreas_90.nii.gz").write_bytes(b"Mac OS X")
    pairs = [{kind: f"./{kind}sTr/pancreas_{i}.nii.gz" for kind in ("image", "label")} for i in range(4)]
    test = [f"./imagesTs/pancreas_9{i}.nii.gz" for i in range(4)]
    labels = {"0": "background", "1": "pancreas", "2": "cancer"}
    describe(folder, name="PANCREAS", modality={"0": "CT"}, labels=labels, training=pairs, test=test)
    store = prepared(folder, tmp_path)
    assert store.structures == ("pancreas", "cancer")
    assert {f"pancreas_9{i}" for i in range(4)} == set(store.splits.pretrain) - set(store.splits.train)
    assert "4 scans of imagesTs have no labels and are in the pre-training split only" in store.notes
    assert "1 files ._* are left-overs of a macOS archive and are not read" in store.notes


def test_nnunet_regions_gaps_folds_and_labelled_test_scans(tmp_path):
    folder = tmp_path / "Dataset220"
    for i in range(5):
        write(folder / f"imagesTr/k{i}_0000.nii.gz")
        second = np.full((12, 12, 4), 70, np.int16)
        second[0, 0, 0] = i
        write(folder / f"imagesTr/k{i}_0001.nii.gz", second)
        write(folder / f"labelsTr/k{i}.nii.gz", boxes(1, 2, 3))
    write(folder / "imagesTs/t_0001.nii.gz")
    write(folder / "labelsTs/t.nii.gz", boxes(1, 3))
    fold = {"train": ["k0", "k1", "k2"], "val": ["k3", "k4"]}
    (folder / "splits_final.json").write_text(json.dumps([fold, {"train": ["k4"], "val": ["k0"]}]))
    labels = {"background": 0, "kidney": [1, 2, 3], "mass": [2, 3], "tumour": 2}
    describe(folder, channel_names={"0": "PET", "1": "CT"}, labels=labels, regions_class_order=[1, 3, 2])
    store = prepared(folder, tmp_path, channel=1, split="fold_0")
    assert store.structures == ("kidney without mass", "tumour", "mass without tumour")
    assert (store.read_case("k0").image_hu == 70).sum() == 12 * 12 * 4 - 1
    assert store.splits.train == ("k0", "k1", "k2")
    assert store.splits.validation == ("k3", "k4")
    assert store.splits.test == ("t",)
    assert any(note.startswith("channel 1 (CT) of PET, CT") for note in store.notes)
    published = read_cohort(folder, SMALL.model_copy(update={"channel": 1}))
    assert published.divisions["published"] == {"t": "test"}
    with pytest.raises(
        ValueError, match=r"prepare\.split='fold_7' is no division.*fractions, pretrain, published, fold_0, fold_1"
    ):
        prepare(folder, tmp_path / "other", SMALL.model_copy(update={"channel": 1, "split": "fold_7"}))


def test_the_ignore_label_of_nnunet_is_no_organ(tmp_path):
    folder = tmp_path / "Dataset001"
    for i in range(4):
        write(folder / f"imagesTr/a{i}_0000.nii.gz")
        write(folder / f"labelsTr/a{i}.nii.gz", boxes(1, 5, 6) if i == 0 else boxes(1, 5))
    describe(folder, channel_names={"0": "CT"}, labels={"background": 0, "liver": 1, "spleen": 5, "ignore": 6})
    made = prepare(folder, tmp_path / "store", SMALL)
    assert made.store.structures == ("liver", "spleen")
    known, unknown = made.store.read_case("a1"), made.store.read_case("a0")
    for case in (known, unknown):
        assert set(np.unique(case.label)) == {0, 1, 2}
    assert known.certainty is None
    assert set(np.unique(unknown.certainty)) == {0, 255}
    assert not unknown.label[unknown.certainty == 0].any()
    assert int((unknown.certainty == 0).sum()) == 16
    stored = pq.read_table(made.store.path("a0"), columns=["n_labelled_pixels"]).column(0).to_numpy()
    assert stored.sum() == int((unknown.label > 0).sum())
    scan = scans_of_store(made.store, ["a0"]).read("a0")
    assert int((scan.stored_labels == UNKNOWN_LABEL).sum()) == int((scan.labels == UNKNOWN_LABEL).sum()) == 16


def kits(folder, numbers, shape=(12, 12, 4)):
    """As KiTS19 has them: the first axis from head to feet, then from back to front and from left to right."""
    to_ras = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
    for number in numbers:
        labels = np.zeros((4, 12, 12), np.uint8)
        labels[0, 5:7, 2:4], labels[0, 5:7, 8:10] = 1, 2
        write(folder / f"case_{number:05d}/imaging.nii.gz", RNG.normal(0, 9, labels.shape).astype(np.int16), to_ras)
        write(folder / f"case_{number:05d}/segmentation.nii.gz", labels, to_ras)
    return folder


def test_kits_is_turned_and_its_known_issues_are_left_out_by_name(tmp_path):
    folder = kits(tmp_path / "kits19/data", [0, 1, 2, 3, 15, 23, 160]).parent
    store = prepared(folder, tmp_path, leave_out=("faulty_labels",))
    assert store.structures == ("Kidney", "Tumour")
    assert set(store.cases["case"]) == {f"case_{n:05d}" for n in (0, 1, 2, 3, 160)}
    label = store.read_case("case_00000").label.numpy()
    assert label[-1].any(), "the first voxel along the files' first axis is at the head"
    assert not label[:-1].any()
    assert "2 scans are left out by prepare.leave_out: case_00015, case_00023" in store.notes
    assert any(note.startswith("1 scans have the known issue odd_size: case_00160;") for note in store.notes)
    with pytest.raises(ValueError, match=r"leave_out names faulty, which is no case.*second_contrast_phase"):
        leave_out(read_cohort(folder), ["faulty"])


def test_the_papers_division_of_kits_is_80_25_105(tmp_path):
    for number in range(300):
        (tmp_path / f"case_{number:05d}").mkdir()
        for name in ("imaging", "segmentation"):
            (tmp_path / f"case_{number:05d}/{name}.nii.gz").touch()
    cohort = read_cohort(tmp_path)
    splits = split_cases(
        cohort.cases, train_fraction=0.4, validation_fraction=0.1, seed=0, division=cohort.divisions["paper"]
    )
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [80, 25, 105]
    assert max(splits.train + splits.validation + splits.test) < "case_00210"
    without = leave_out(cohort, ["faulty_labels"])
    fewer = split_cases(
        without.cases, train_fraction=0.4, validation_fraction=0.1, seed=0, division=without.divisions["paper"]
    )
    assert set(fewer.test) == set(splits.test) & {case.case for case in without.cases}


def test_ribfrac_in_separate_trees(tmp_path):
    folder = tmp_path / "ribfrac"
    for number, part in ((1, "train-1"), (2, "train-1"), (421, "val"), (501, "test")):
        write(folder / f"ribfrac-{part}-images/Part1/RibFrac{number}-image.nii.gz")
        if part != "test":
            write(folder / f"ribfrac-{part}-labels/RibFrac{number}-label.nii.gz", boxes(1, 2, 3))
    store = prepared(folder, tmp_path)
    assert store.structures == ("Fracture",)
    assert set(np.unique(store.read_case("RibFrac1").label)) == {0, 1}
    assert store.splits.test == ("RibFrac421",)
    assert "RibFrac501" in store.splits.pretrain


def test_totalsegmentator_masks_become_one_label_map(tmp_path):
    folder = tmp_path / "Totalsegmentator_dataset_v201"
    lines = ["image_id;age;split"]
    for name, split in {"s0000": "train", "s0001": "val", "s0002": "test"}.items():
        write(folder / name / "ct.nii.gz")
        for mask, labels in {"kidney_left": boxes(1), "kidney_right": boxes(0, 1), "liver": boxes(0, 0, 1)}.items():
            write(folder / name / "segmentations" / f"{mask}.nii.gz", labels)
        lines.append(f"{name};60;{split}")
    both = boxes(1, 0, 1)
    write(folder / "s0000/segmentations/kidney_left.nii.gz", both)
    (folder / "s0001/segmentations/liver.nii.gz").unlink()
    (folder / "meta.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    store = prepared(folder, tmp_path, absent_structures="absent")
    assert store.structures == ("kidney_left", "kidney_right", "liver")
    assert store.left_right_pairs == (("kidney_left", "kidney_right"),)
    assert vars(store.splits) == {
        "pretrain": ("s0000",), "train": ("s0000",), "validation": ("s0001",), "test": ("s0002",),
    }  # fmt: skip
    assert np.unique(store.read_case("s0000").label, return_counts=True)[1].tolist()[1:] == [16, 16, 16]
    assert "s0000: 16 voxels are in several masks and have the later structure's value" in store.notes
    assert store.contoured("s0001") == [True, True, False]


def test_amos_has_no_mr_and_tests_on_its_validation_part(tmp_path):
    folder = tmp_path / "amos22"
    for number, part in ((1, "Tr"), (4, "Tr"), (7, "Tr"), (507, "Tr"), (8, "Va"), (9, "Va"), (10, "Ts")):
        write(folder / f"images{part}/amos_{number:04d}.nii.gz")
        if part != "Ts":
            write(folder / f"labels{part}/amos_{number:04d}.nii.gz", boxes(1, 15))
    describe(folder, labels={"0": "background", "1": "spleen"}, training=[{"image": "./imagesTr/amos_0001.nii.gz"}])
    store = prepared(folder, tmp_path)
    assert store.notes[0] == "The layout is amos"
    assert len(store.structures) == 15
    assert store.splits.test == ("amos_0008", "amos_0009")
    assert {*store.splits.train, *store.splits.validation} == {"amos_0001", "amos_0004", "amos_0007"}
    assert "amos_0010" in store.splits.pretrain
    assert "1 scans with numbers from 500 on are MR and are not read" in store.notes


def test_flare_and_btcv(tmp_path):
    flare = tmp_path / "flare"
    for i in range(3):
        write(flare / f"images/FLARE22_Tr_{i:04d}_0000.nii.gz")
        write(flare / f"labels/FLARE22_Tr_{i:04d}.nii.gz", boxes(1, 13))
    write(flare / "unlabeled/Case_00001_0000.nii.gz")
    store = prepared(flare, tmp_path)
    assert store.notes[0] == "The layout is flare"
    assert "Case_00001" in store.splits.pretrain
    btcv = tmp_path / "Abdomen/RawData"
    for i in range(1, 4):
        write(btcv / f"Training/img/img{i:04d}.nii.gz")
        write(btcv / f"Training/label/label{i:04d}.nii.gz", boxes(6, 11))
    write(btcv / "Testing/img/img0061.nii.gz")
    cohort = read_cohort(btcv)
    assert [case.label and case.label.name for case in cohort.cases] == [
        "label0001.nii.gz", "label0002.nii.gz", "label0003.nii.gz", None,
    ]  # fmt: skip
    assert cohort.structures[5] == "Liver"


def test_every_scan_of_a_source_is_pretrained_on_and_no_label_is_read(tmp_path):
    folder = kits(tmp_path / "kits19", [0, 1])
    (folder / "case_00001/segmentation.nii.gz").write_bytes(b"not read")
    store = prepared(folder, tmp_path, split="pretrain")
    assert vars(store.splits) == {
        "pretrain": ("case_00000", "case_00001"), "train": (), "validation": (), "test": (),
    }  # fmt: skip
    assert store.structures == ()
    assert not store.read_case("case_00000").label.any()


def test_any_other_folder_is_read_by_patterns_and_masks_are_never_scans(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    folder = tmp_path / "lab"
    for i in range(3):
        where = folder / f"p{i}"
        where.mkdir(parents=True)
        image = sitk.GetImageFromArray(RNG.normal(0, 9, (4, 12, 12)).astype(np.int16))
        sitk.WriteImage(image, str(where / "ct.nrrd"), True)
        labels = sitk.GetImageFromArray(boxes(1, 2).transpose(2, 1, 0))
        sitk.WriteImage(labels, str(where / f"p{i}_organs.mha"), True)
    settings = {
        "layout": "folder", "images": "{case}/ct.nrrd", "labels": "{case}/{case}_organs.mha",
        "structures": ("Liver", "Spleen"),
    }  # fmt: skip
    store = prepared(folder, tmp_path, **settings)
    assert store.structures == ("Liver", "Spleen")
    assert store.contoured("p1") == [True, True]
    flat = tmp_path / "flat"
    for name in ("a", "a_seg", "b", "b-label", "segovia"):
        write(flat / f"{name}.nii.gz")
    cohort = read_cohort(flat)
    assert [case.case for case in cohort.cases] == ["a", "b", "segovia"]
    assert "2 files are masks by their names, such as *_seg, and are not read as scans" in cohort.notes


def test_a_layout_that_is_asked_for_and_one_that_nobody_knows(tmp_path):
    kits(tmp_path, [0])
    assert layout_of(tmp_path) == "kits"
    with pytest.raises(ValueError, match=r"prepare\.layout='KITS' is not known; expected one of kits, ribfrac"):
        read_cohort(tmp_path, Prepare(layout="KITS"))
    write(tmp_path / "s0/ct.nii.gz")
    (tmp_path / "s0/segmentations").mkdir()
    with pytest.raises(ValueError, match="may have the layouts kits, totalsegmentator; choose one, such as --layout"):
        read_cohort(tmp_path)


def test_an_organ_that_the_crop_cuts_away_is_an_error_unless_allowed(tmp_path):
    folder = tmp_path / "wide"
    for i in range(3):
        labels = np.zeros((60, 60, 4), np.uint8)
        labels[:4, :4, :], labels[28:32, 28:32, :] = 1, 2
        write(folder / f"images/c{i}.nii.gz", RNG.normal(0, 9, labels.shape).astype(np.int16))
        write(folder / f"labels/c{i}.nii.gz", labels)
    asked = {
        "layout": "folder", "images": "images/{case}.nii.gz", "labels": "labels/{case}.nii.gz",
        "structures": ("Arm", "Heart"),
    }  # fmt: skip
    with pytest.raises(
        ValueError, match=r"c0: all 64 voxels of Arm are outside the 32 x 32 pixels.*may_lose=\[\"Arm\"\]"
    ):
        prepared(folder, tmp_path, **asked)
    store = prepared(folder, tmp_path, may_lose=("Arm",), **asked)
    assert store.cases["voxels_outside_crop"].tolist() == [64, 64, 64]
