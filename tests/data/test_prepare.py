"""Prepare: what is stored is what was scanned, one bad scan spoils only itself, and the same command continues."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.data.slices import read_slices
from pixelglobal.data.splits import read_splits
from pixelglobal.data.store import Store
from pixelglobal.data.stored_grid import crop_or_pad
from pixelglobal.data.volumes import read_labels, read_volume

KINDS = {"image": "imagesTr", "label": "labelsTr"}


@pytest.fixture
def cohort(phantom_folder, tmp_path):
    return shutil.copytree(phantom_folder, tmp_path / "cohort")


def edit(path, change):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


def test_stored_slices_are_the_clipped_scan(store, phantom_folder):
    volume = read_volume(
        phantom_folder / "imagesTr/phantom_000.nii.gz",
        phantom_folder / "labelsTr/phantom_000.nii.gz",
        case="phantom_000",
        patient="phantom_000",
    )
    batch = store.read_case("phantom_000")
    assert batch.image_hu.dtype == torch.int16
    assert (batch.image_hu.numpy() == np.clip(volume.image_hu, -1024, 325)).all()
    assert (batch.label.numpy() == volume.labels).all()
    assert batch.slice_index.tolist() == list(range(8))
    assert batch.contoured.all()
    assert (store.paste_back("phantom_000", batch.label.numpy()) == volume.labels).all()


def test_normalisation_of_very_many_voxels_does_not_overflow(store, tmp_path):
    root = shutil.copytree(store.root, tmp_path / "store")
    cases = store.cases.assign(n_pixels=10**14, hu_sum=-3 * 10**16, hu_sum_of_squares=92 * 10**17)
    cases.to_csv(root / "cases.csv", index=False)
    (root / "SHA256SUMS").unlink()
    facts = Store.open(root).normalization(cases["case"][:2])
    assert facts.mean_hu == -300
    assert facts.std_hu == pytest.approx((92_000 - 300**2) ** 0.5)


def test_normalisation_is_that_of_the_named_cases_only(store):
    cases = store.splits.pretrain
    values = torch.cat([store.read_case(c).image_hu for c in cases]).double()
    facts = store.normalization(cases)
    assert facts.mean_hu == pytest.approx(values.mean().item())
    assert facts.std_hu == pytest.approx(values.std(correction=0).item())
    assert facts != store.normalization(store.splits.test)


@pytest.mark.parametrize("size", [20, 32, 45])
def test_crop_and_pad_are_centred_and_go_back(size):
    array = np.arange(2 * size * size, dtype=np.int32).reshape(2, size, size)
    out = crop_or_pad(array, 32, fill=-7)
    assert out.shape == (2, 32, 32)
    if size >= 32:
        start = (size - 32) // 2
        assert (out == array[:, start : start + 32, start : start + 32]).all()
    else:
        start = (32 - size) // 2
        assert (out[:, start : start + size, start : start + size] == array).all()
        assert (out == -7).sum() == 2 * (32 * 32 - size * size)


def test_a_scan_larger_than_the_crop_is_pasted_back_on_its_own_grid(tmp_path, tiny):
    folder = make_phantom_cohort(tmp_path / "big", n_patients=3, n_unlabelled=0, size=48, n_slices=6)
    store = prepare(folder, tmp_path / "store", tiny.prepare).store
    stored = store.read_case("phantom_000").label.numpy()
    back = store.paste_back("phantom_000", stored)
    assert back.shape == (6, 48, 48)
    assert (back[:, 8:40, 8:40] == stored).all()
    assert back.sum() == stored.sum()
    lost = store.cases.set_index("case").loc["phantom_000", "voxels_outside_crop"]
    whole = np.asarray(nib.load(folder / "labelsTr/phantom_000.nii.gz").dataobj)
    assert lost == np.count_nonzero(whole) - np.count_nonzero(stored)


def test_resampling_happens_only_when_asked_and_goes_back(tmp_path, phantom_folder, tiny):
    other = tiny.prepare.model_copy(update={"in_plane_spacing_mm": 16.0, "image_size": 32})
    store = prepare(phantom_folder, tmp_path / "store", other).store
    batch = store.read_case("phantom_000")
    back = store.paste_back("phantom_000", batch.label.numpy())
    truth = np.asarray(nib.load(phantom_folder / "labelsTr/phantom_000.nii.gz").dataobj).transpose(2, 1, 0)
    assert back.shape == truth.shape
    assert (back == truth).mean() > 0.95


def test_one_bad_scan_spoils_only_itself(cohort, tmp_path, tiny):
    (cohort / "imagesTr/phantom_000.nii.gz").write_bytes(b"not a scan")
    edit(cohort / "labelsTr/phantom_001.nii.gz", lambda a: np.where(a == 1, 9, a).astype(np.uint8))
    made = prepare(cohort, tmp_path / "store", tiny.prepare.model_copy(update={"max_quarantined": 0.25}))
    assert set(made.quarantined) == {"phantom_000", "phantom_001"}
    assert "cannot be read" in made.quarantined["phantom_000"]
    assert "label values 9; expected whole numbers from 0 to 4" in made.quarantined["phantom_001"]
    assert len(made.store.cases) == 6
    assert len(made.store.read_case("phantom_002")) == 8
    assert "phantom_000" in (tmp_path / "store/quarantine.csv").read_text()


def test_the_same_command_continues_and_repairs(cohort, tmp_path, tiny):
    good = (cohort / "imagesTr/phantom_000.nii.gz").read_bytes()
    (cohort / "imagesTr/phantom_000.nii.gz").write_bytes(b"not a scan")
    prepare(cohort, tmp_path / "store", tiny.prepare)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "store/slices").iterdir()}
    (cohort / "imagesTr/phantom_000.nii.gz").write_bytes(good)
    made = prepare(cohort, tmp_path / "store", tiny.prepare)
    assert not made.quarantined
    assert len(made.store.cases) == 8
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())


def test_a_lost_slice_file_is_made_again(cohort, tmp_path, tiny):
    store = prepare(cohort, tmp_path / "store", tiny.prepare).store
    before = store.read_case("phantom_003").image_hu
    store.path("phantom_003").unlink()
    assert torch.equal(prepare(cohort, store.root, tiny.prepare).store.read_case("phantom_003").image_hu, before)


def test_a_repaired_scan_moves_no_other_to_another_side(cohort, tmp_path, tiny):
    path = cohort / "imagesTr/phantom_001.nii.gz"
    good = path.read_bytes()
    path.write_bytes(b"not a scan")
    before = prepare(cohort, tmp_path / "store", tiny.prepare).store.splits
    path.write_bytes(good)
    after = prepare(cohort, tmp_path / "store", tiny.prepare).store.splits
    for name, part in vars(before).items():
        assert set(getattr(after, name)) - {"phantom_001"} == set(part)
    assert "phantom_001" in after.train + after.validation + after.test


def test_a_divided_store_is_not_divided_otherwise(cohort, tmp_path, tiny):
    store = prepare(cohort, tmp_path / "store", tiny.prepare).store
    other = tiny.prepare.model_copy(update={"split_seed": 5})
    with pytest.raises(
        ValueError, match=r"is divided already.*would move \d cases \(phantom_00\d from .* Choose another"
    ):
        prepare(cohort, store.root, other)
    assert Store.open(store.root).splits == store.splits
    (store.root / "splits.json").unlink()
    assert prepare(cohort, store.root, other).store.splits != store.splits


def test_a_split_that_lost_all_its_cases_is_named(cohort, tmp_path, tiny):
    splits = {"train": ["phantom_000"], "validation": ["phantom_001"], "test": ["phantom_002"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    asked = tiny.prepare.model_copy(update={"split_file": str(tmp_path / "splits.json")})
    (cohort / "imagesTr/phantom_001.nii.gz").write_bytes(b"not a scan")
    with pytest.raises(
        ValueError, match=r"every case of the validation split is quarantined \(phantom_001; reasons in"
    ):
        prepare(cohort, tmp_path / "store", asked)
    assert (tmp_path / "store/slices/phantom_000.parquet").is_file()


def test_two_patients_are_refused_and_their_slices_are_kept(tmp_path, tiny):
    folder = make_phantom_cohort(tmp_path / "two", n_patients=2, n_unlabelled=0, size=32, n_slices=4)
    with pytest.raises(ValueError, match=r"2 labelled patients cannot be divided.*or give prepare\.split_file"):
        prepare(folder, tmp_path / "store", tiny.prepare)
    assert len(list((tmp_path / "store/slices").glob("*.parquet"))) == 2


def test_labels_that_are_infinite_spoil_only_their_scan(cohort, tmp_path, tiny):
    edit(cohort / "labelsTr/phantom_000.nii.gz", lambda a: np.where(a == 1, np.inf, a).astype(np.float32))
    made = prepare(cohort, tmp_path / "store", tiny.prepare)
    assert list(made.quarantined) == ["phantom_000"]
    assert "holds label values inf; expected whole numbers from 0 to 4" in made.quarantined["phantom_000"]


def test_scans_without_labels_are_all_for_pre_training(phantom_folder, tmp_path, tiny):
    plain = shutil.copytree(phantom_folder / "imagesTr", tmp_path / "plain")
    store = prepare(plain, tmp_path / "store", tiny.prepare).store
    assert len(store.splits.pretrain) == 8
    assert store.splits.train == store.splits.validation == store.splits.test == ()
    assert store.contoured("phantom_000") == []
    batch = store.read_case("phantom_000")
    assert not batch.label.any()
    assert not batch.contoured.any()


def test_labels_are_part_of_the_record(cohort, tmp_path, tiny):
    """A contour that moves keeps its voxel count; results made with the old one must not be taken for new."""
    first = prepare(cohort, tmp_path / "a", tiny.prepare).store.cases.set_index("case").loc["phantom_000"]
    edit(cohort / "labelsTr/phantom_000.nii.gz", lambda a: np.roll(a, 1, axis=0))
    second = prepare(cohort, tmp_path / "b", tiny.prepare).store.cases.set_index("case").loc["phantom_000"]
    assert (first["voxels"], first["sha256"]) == (second["voxels"], second["sha256"])
    assert first["labels_sha256"] != second["labels_sha256"]


def test_work_may_be_finished_in_any_order(cohort, tmp_path, tiny):
    seen = []
    made = prepare(
        cohort,
        tmp_path / "backwards",
        tiny.prepare,
        map_cases=lambda work, cases: map(work, reversed(cases)),
        progress=lambda done, total: seen.append((done, total)),
    )
    plain = prepare(cohort, tmp_path / "plain", tiny.prepare).store
    assert seen == [(k, 8) for k in range(1, 9)]
    for name in ("cases.csv", "splits.json", "cohort.json", "slices/phantom_004.parquet"):
        assert (made.store.root / name).read_bytes() == (plain.root / name).read_bytes()


def test_names_that_look_like_nothing_stay_names(cohort, tmp_path, tiny):
    facts = json.loads((cohort / "dataset.json").read_text())
    facts["patients"]["phantom_000"] = "NA"
    (cohort / "dataset.json").write_text(json.dumps(facts))
    store = prepare(cohort, tmp_path / "store", tiny.prepare).store
    assert store.cases["patient"].tolist()[:2] == ["NA", "phantom_001"]


def test_other_settings_or_other_contents_in_the_folder_are_refused(store, phantom_folder, tmp_path, tiny):
    with pytest.raises(ValueError, match=r"holds a store with other settings \(image_size=32 there, 64 now\)"):
        prepare(phantom_folder, store.root, settings.resolve("smoke", ["prepare.keep_ids=true"]).prepare)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="exists and is no store of this program; choose an empty"):
        prepare(phantom_folder, tmp_path / "full", tiny.prepare)


def test_a_cohort_without_one_usable_scan(cohort, tmp_path, tiny):
    for path in (cohort / "imagesTr").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 8 scans in .* can be used; the first: .*phantom_000"):
        prepare(cohort, tmp_path / "store", tiny.prepare)


def test_the_same_scan_under_two_names_on_two_sides_is_leakage(cohort, tmp_path, tiny):
    splits = {"train": ["phantom_000"], "validation": ["phantom_001"], "test": ["phantom_002"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    for kind in ("imagesTr", "labelsTr"):
        shutil.copy(cohort / kind / "phantom_000.nii.gz", cohort / kind / "phantom_002.nii.gz")
    asked = tiny.prepare.model_copy(update={"split_file": str(tmp_path / "splits.json")})
    with pytest.raises(ValueError, match="same voxels are in both train and test: phantom_000 and phantom_002"):
        prepare(cohort, tmp_path / "store", asked)


def test_structures_without_a_voxel_mean_what_the_setting_says(cohort, tmp_path, tiny):
    edit(cohort / "labelsTr/phantom_000.nii.gz", lambda a: np.where(a == 2, 0, a).astype(np.uint8))
    made = prepare(cohort, tmp_path / "a", tiny.prepare).store
    assert made.contoured("phantom_000") == [True, False, True, True]
    assert made.read_case("phantom_000").contoured[0].tolist() == [True, True, False, True, True]
    absent = tiny.prepare.model_copy(update={"absent_structures": "absent"})
    assert prepare(cohort, tmp_path / "b", absent).store.contoured("phantom_000") == [True] * 4


def test_a_store_that_is_none_and_a_case_that_is_not_there(store, tmp_path):
    with pytest.raises(ValueError, match=r"is no prepared cohort: cohort\.json is missing\. Run `pixelglobal prepare`"):
        Store.open(tmp_path)
    with pytest.raises(ValueError, match="case 'x' is not in"):
        store.contoured("x")
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(store.path("phantom_000").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cannot read .*torn\.parquet"):
        read_slices(torn)


@pytest.mark.real_data
def test_three_real_patients_are_what_their_census_says(real_data, tmp_path):
    """Grid, spacing and voxels per structure against the list that came with the data; and nothing lost on the way."""
    census = {facts["case"]: facts for facts in json.loads((real_data / "cases.json").read_text())}
    splits = json.loads((real_data / "splits.json").read_text())
    picked = {name: splits[name][0] for name in ("train", "validation", "test")}
    facts = json.loads((real_data / "dataset.json").read_text())
    facts["training"] = [
        {kind: str((real_data / f"{folder}/{case}.nii.gz").resolve()) for kind, folder in KINDS.items()}
        for case in picked.values()
    ]
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort/dataset.json").write_text(json.dumps(facts))
    (tmp_path / "splits.json").write_text(json.dumps({name: [case] for name, case in picked.items()}))
    words = [
        "prepare.keep_ids=true",
        f"prepare.split_file={tmp_path / 'splits.json'}",
        "prepare.in_plane_spacing_mm=null",
    ]
    asked = settings.resolve("small", words).prepare
    made = prepare(tmp_path / "cohort", tmp_path / "store", asked)
    assert not made.quarantined
    assert made.store.splits.test == (picked["test"],)
    for row in made.store.cases.itertuples():
        expected = census[row.case]
        assert [row.columns, row.rows, row.n_slices] == expected["shape"]
        found = [row.spacing_x_mm, row.spacing_y_mm, row.spacing_z_mm]
        assert found == pytest.approx(expected["spacing"], abs=1e-3)
        voxels = [expected["voxels"][name] for name in made.store.structures]
        assert [int(n) for n in row.voxels.split(",")] == voxels
        assert made.store.contoured(row.case) == [n > 0 for n in voxels]
        reference, _, _ = read_labels(made.store.label_path(row.case))
        assert (made.store.paste_back(row.case, made.store.read_case(row.case).label.numpy()) == reference).all()


@pytest.mark.real_data
def test_the_splits_that_came_with_real_data_fit_its_cohort(real_data):
    splits = read_splits(real_data / "splits.json", read_cohort(real_data).cases)
    assert {name: len(part) for name, part in vars(splits).items()} == {
        "pretrain": 163, "train": 40, "validation": 8, "test": 24,
    }  # fmt: skip
