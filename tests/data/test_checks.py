"""Every kind of wrong scan is seen, said with numbers, and quarantined or put right as asked; a right one is not."""

import nibabel as nib
import numpy as np
import pytest

from pixelglobal.data.checks.kinds import KINDS, Suspect
from pixelglobal.data.checks.measure import Values, structures_of
from pixelglobal.data.checks.scan import suspects_of_values
from pixelglobal.data.phantom import make_phantom, make_phantom_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.data.store import Store
from pixelglobal.inspection.inspection import inspect


def kinds_of(image_hu):
    return {suspect.kind for suspect in suspects_of_values("a", Values.of(image_hu))}


@pytest.fixture(scope="module")
def patient():
    return make_phantom(np.random.default_rng(1), size=32, n_slices=8)


def mr_like(hu):
    """Background near 0 and tissues over a wide range, as a magnitude image has them."""
    rng = np.random.default_rng(0)
    body = hu > -500
    return np.where(body, np.abs(rng.normal(400, 150, hu.shape)) + (hu > 20) * 150, np.abs(rng.normal(0, 8, hu.shape)))


WRONG_VALUES = {
    "not_hu": [
        mr_like,
        lambda hu: np.interp(hu, [-1024, 1800], [0, 1]),
        lambda hu: (hu - hu.mean()) / hu.std(),
        lambda hu: hu / 30,
        lambda hu: hu * 1e30,
    ],
    "stored_offset": [lambda hu: np.clip(hu, -1024, None) + 1024],
    "no_body": [lambda hu: np.full_like(hu, 7), lambda hu: np.random.default_rng(0).integers(-1010, -990, hu.shape)],
    "extreme_hu": [lambda hu: np.where(np.arange(hu.size).reshape(hu.shape) == 5, 1e30, hu)],
}
CASES = [
    pytest.param(kind, change, id=f"{kind}-{i}") for kind, all_ in WRONG_VALUES.items() for i, change in enumerate(all_)
]


@pytest.mark.parametrize(("kind", "change"), CASES)
def test_wrong_values_are_seen(patient, kind, change):
    changed = np.clip(np.rint(change(patient[0].astype(float))), -32768, 32767).astype(np.int16)
    assert kind in kinds_of(changed)
    assert kinds_of(changed) <= {kind, "extreme_hu"}


@pytest.mark.parametrize("padding", [None, -2048, -3024])
def test_a_ct_is_not_suspect_with_whatever_lies_outside_the_scanners_circle(patient, padding):
    hu = patient[0].copy()
    if padding is not None:
        y, x = np.ogrid[-1 : 1 : hu.shape[1] * 1j, -1 : 1 : hu.shape[2] * 1j]
        hu[:, np.hypot(y, x) > 1] = padding
    assert kinds_of(hu) == set()


def test_values_are_counted_as_they_are(patient):
    hu = patient[0]
    values = Values.of(hu)
    for share in (0, 0.001, 0.5, 0.999, 1):
        assert values.quantile(share) == np.quantile(hu, share, method="inverted_cdf")
    assert values.share(-400, 100) == ((hu >= -400) & (hu < 100)).mean()
    assert sum(values.histogram()) == hu.size
    assert values.histogram()[40] == ((hu >= -50) & (hu < 0)).sum()


def test_structures_are_measured_in_ml_parts_hu_and_place():
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[1, 2:4, 2:4], labels[3, 8, 8], labels[0, 0, 9] = 1, 1, 3
    image = np.where(labels == 1, 50, -1000).astype(np.int16)
    image[3, 8, 8] = 999
    measured = structures_of(image, labels, (5.0, 2.0, 2.0), ("A", "B", "C"))
    assert measured.keys() == {"A", "C"}
    a = measured["A"]
    assert (a["voxels"], a["ml"], a["components"], a["median_hu"]) == (5, 0.1, 2, 50.0)
    assert a["column_mm"] == pytest.approx(2.0 * (2 + 3 + 2 + 3 + 8) / 5)


def test_a_suspect_has_a_kind_that_is_explained():
    with pytest.raises(ValueError, match="'odd' is no kind of suspect; expected one of not_hu"):
        Suspect("a", "odd", "something")
    assert all(kind.advice.endswith(".") and not kind.words.endswith(".") for kind in KINDS.values())


@pytest.fixture
def cohort(tmp_path):
    return make_phantom_cohort(tmp_path / "scans", n_patients=4, n_unlabelled=2, size=32, n_slices=8)


def rewrite(cohort, case, image=lambda a: a, label=None, affine=lambda a: a):
    """Change the files of a case: voxels [x, y, z] and affine."""
    for folder, change in (("imagesTr", image), ("labelsTr", label or (lambda a: a))):
        path = cohort / folder / f"{case}.nii.gz"
        if path.is_file():
            file = nib.load(path)
            nib.save(nib.Nifti1Image(change(np.asarray(file.dataobj)), affine(file.affine)), path)


def scaled(*factors):
    return lambda affine: np.diag([*factors, 1.0]) @ affine


def sheared(affine):
    shear = np.eye(4)
    shear[1, 2] = 0.3  # y moves along z, as with a tilted gantry
    return affine @ np.linalg.inv(np.diag(np.diag(affine))) @ shear @ np.diag(np.diag(affine))


def prepared(cohort, tmp_path, tiny, **settings):
    return prepare(cohort, tmp_path / "store", tiny.prepare.model_copy(update=settings))


def kinds_in(store, case):
    return {one["kind"] for one in store.checks(case)["suspects"]}


WRONG_GRIDS = {
    "spacing": scaled(0.001, 0.001, 0.001),
    "sheared": sheared,
    "not_axial": lambda a: a @ np.diag([2.5, 1, 1, 1]),
}


@pytest.mark.parametrize("kind", WRONG_GRIDS)
def test_wrong_grids_are_seen(cohort, tmp_path, tiny, kind):
    rewrite(cohort, "phantom_004", affine=WRONG_GRIDS[kind])
    store = prepared(cohort, tmp_path, tiny).store
    assert kinds_in(store, "phantom_004") == {kind}
    assert kinds_in(store, "phantom_005") == set()


def test_a_scan_that_is_surely_wrong_is_in_no_split_and_the_reason_is_kept(cohort, tmp_path, tiny):
    rewrite(cohort, "phantom_004", image=lambda a: np.full_like(a, 7))
    made = prepared(cohort, tmp_path, tiny)
    assert made.quarantined == {"phantom_004": "no body: constant or all air: every voxel is 7"}
    assert "phantom_004" not in made.store.splits.pretrain
    assert (
        "phantom_004,no body: constant or all air: every voxel is 7,prepare"
        in (made.store.root / "quarantine.csv").read_text()
    )
    free = prepared(cohort, tmp_path, tiny, quarantine=())
    assert free.quarantined == {}
    assert "phantom_004" in free.store.splits.pretrain
    with pytest.raises(ValueError, match=r"prepare\.quarantine names odd; expected some of not_hu"):
        prepared(cohort, tmp_path, tiny, quarantine=("odd",))


def test_lines_that_a_person_wrote_stay_and_those_of_prepare_go_when_the_scan_is_repaired(cohort, tmp_path, tiny):
    good = (cohort / "imagesTr/phantom_004.nii.gz").read_bytes()
    (cohort / "imagesTr/phantom_004.nii.gz").write_bytes(b"no scan")
    store = prepared(cohort, tmp_path, tiny).store
    path = store.root / "quarantine.csv"
    path.write_text(path.read_text() + "phantom_005,metal,\n")
    assert set(Store.open(store.root).quarantine) == {"phantom_004", "phantom_005"}
    (cohort / "imagesTr/phantom_004.nii.gz").write_bytes(good)
    assert prepared(cohort, tmp_path, tiny).store.quarantine == {"phantom_005": "metal"}


def test_too_many_wrong_scans_stop_the_preparation(cohort, tmp_path, tiny):
    for case in ("phantom_004", "phantom_005"):
        rewrite(cohort, case, image=lambda a: np.full_like(a, 7))
    message = (
        r"2 of 6 scans cannot be used or are surely wrong, more than the 5% of prepare\.max_quarantined: phantom_004"
    )
    with pytest.raises(ValueError, match=message):
        prepared(cohort, tmp_path, tiny)
    assert not (tmp_path / "store/cohort.json").is_file()
    assert len((tmp_path / "store/quarantine.csv").read_text().splitlines()) == 3
    assert len(prepared(cohort, tmp_path, tiny, max_quarantined=0.4).quarantined) == 2


def test_an_impossible_spacing_is_not_resampled(cohort, tmp_path, tiny):
    """A thousandfold spacing would take a thousandfold image on each axis."""
    rewrite(cohort, "phantom_004", affine=scaled(1000, 1000, 1000))
    made = prepared(cohort, tmp_path, tiny, in_plane_spacing_mm=11.0)
    assert "phantom_004: has voxels of" in made.quarantined["phantom_004"]


def test_fix_header_gives_back_the_scan(cohort, tmp_path, tiny):
    right = prepare(cohort, tmp_path / "right", tiny.prepare).store
    rewrite(cohort, "phantom_004", image=lambda a: np.clip(a, -1024, None) + 1024)
    rewrite(cohort, "phantom_000", affine=scaled(0.001, 0.001, 0.001))
    made = prepared(cohort, tmp_path, tiny, fix=("header",))
    assert made.quarantined == {}
    for case in ("phantom_000", "phantom_004"):
        assert (made.store.read_case(case).image_hu == right.read_case(case).image_hu).all()
        assert made.store.spacing_mm(case) == pytest.approx(right.spacing_mm(case), rel=1e-6)
    assert "phantom_004: 1024 was subtracted from its values" in made.store.notes
    assert "phantom_000: the spacing was in metres and is in mm now" in made.store.notes


def test_fix_resample_puts_every_slice_where_it_was_in_the_patient(tmp_path, tiny):
    """The same body, once on a straight grid and once scanned with a tilted gantry, is the same after the fix."""
    cohort = make_phantom_cohort(tmp_path / "scans", n_patients=3, n_unlabelled=0, size=48, n_slices=13)
    right = prepare(cohort, tmp_path / "right", tiny.prepare).store
    image = nib.load(cohort / "imagesTr/phantom_000.nii.gz")
    steps = 2  # pixels by which each slice is moved against the one before
    for folder, fill in (("imagesTr", -1024), ("labelsTr", 0)):
        file = nib.load(cohort / folder / "phantom_000.nii.gz")
        voxels = np.asarray(file.dataobj)
        moved = np.full_like(voxels, fill)
        for k in range(voxels.shape[2]):
            d = steps * (k - 6)
            moved[:, max(0, -d) : 48 - max(0, d), k] = voxels[:, max(0, d) : 48 - max(0, -d), k]
        affine = file.affine.copy()
        affine[1, 2] = steps * image.affine[1, 1]
        affine[1, 3] -= 6 * steps * image.affine[1, 1]
        nib.save(nib.Nifti1Image(moved, affine), cohort / folder / "phantom_000.nii.gz")
    plain = prepare(cohort, tmp_path / "plain", tiny.prepare).store
    assert kinds_in(plain, "phantom_000") >= {"sheared"}
    made = prepared(cohort, tmp_path, tiny, fix=("resample",)).store
    assert "sheared" not in kinds_in(made, "phantom_000")
    expected, got = right.read_case("phantom_000"), made.read_case("phantom_000")
    assert (got.image_hu == expected.image_hu)[:, 4:28].float().mean() > 0.99
    assert (got.label == expected.label)[:, 4:28].float().mean() > 0.99


def test_fix_orientation_makes_pixels_square(cohort, tmp_path, tiny):
    rewrite(cohort, "phantom_000", affine=WRONG_GRIDS["not_axial"])
    before = prepare(cohort, tmp_path / "before", tiny.prepare).store
    made = prepared(cohort, tmp_path, tiny, fix=("orientation",), image_size=96)
    _, y, x = made.store.spacing_mm("phantom_000")
    assert x == y == pytest.approx(before.spacing_mm("phantom_000")[1])
    assert kinds_in(made.store, "phantom_000") == set()
    ml = [store.checks("phantom_000")["structures"]["Bladder"]["ml"] for store in (before, made.store)]
    assert ml[1] == pytest.approx(ml[0], rel=0.1)


def test_labels_that_are_empty_or_cut_are_seen(cohort, tmp_path, tiny):
    rewrite(cohort, "phantom_000", label=np.zeros_like)
    edge = np.zeros((32, 32, 8), np.uint8)
    edge[28:, 10:20, 2:5] = 1
    rewrite(cohort, "phantom_001", label=lambda a: edge)
    whole = prepared(cohort, tmp_path, tiny).store
    assert kinds_in(whole, "phantom_000") == {"empty_labels"}
    assert kinds_in(whole, "phantom_001") == set()  # it touches the end of the scan, not of the crop
    made = prepare(cohort, tmp_path / "resampled", tiny.prepare.model_copy(update={"in_plane_spacing_mm": 10.0})).store
    size = made.cases.set_index("case").loc["phantom_001", "stored_columns"]
    assert size > 32
    assert "crop" in kinds_in(made, "phantom_001")
    [line] = [line for line in inspect(made).findings if line.startswith("The crop cuts")]
    assert "Bladder" in line
