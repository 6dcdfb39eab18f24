"""Fingerprints: an altered copy of a scan is known for what it is, and two patients for two."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from pixelglobal.config import with_settings
from pixelglobal.data.fingerprint import NEAR_HU, Fingerprint, distance_hu, fingerprint_of, near_duplicates
from pixelglobal.data.leakage import refuse_shared_scans
from pixelglobal.data.phantom import make_phantom
from pixelglobal.data.pool import pool_of
from pixelglobal.data.prepare import prepare
from pixelglobal.data.store import Store
from tests.support import phantom_store


def phantom(number):
    image_hu, _, spacing_mm = make_phantom(np.random.default_rng([7, number]), size=64, n_slices=24)
    return image_hu, spacing_mm


def resampled(image_hu, spacing_mm, wanted_mm):
    out = ndimage.zoom(image_hu.astype(float), np.divide(spacing_mm, wanted_mm), order=1)
    return out.round().astype(np.int16), tuple(
        s * n / m for s, n, m in zip(spacing_mm, image_hu.shape, out.shape, strict=True)
    )


def cropped(image_hu, spacing_mm):
    return image_hu[8:, 4:-4, 3:-5], spacing_mm


ALTERED = {
    "one HU more": lambda image, mm: (image + 1, mm),
    "noise": lambda image, mm: (image + np.random.default_rng(0).normal(0, 20, image.shape).astype(np.int16), mm),
    "coarser": lambda image, mm: resampled(image, mm, (8.0, 7.0, 7.0)),
    "finer": lambda image, mm: resampled(image, mm, (3.0, 3.0, 3.0)),
    "cropped": cropped,
    "upper half": lambda image, mm: (image[12:], mm),
    "mirrored": lambda image, mm: (image[:, :, ::-1], mm),
    "feet first, prone": lambda image, mm: (image[::-1, ::-1], mm),
    "all of it": lambda image, mm: resampled(image[8:, 3:-3, 3:-3][:, :, ::-1] + 1, mm, (6.0, 6.0, 6.0)),
}


@pytest.mark.parametrize("alter", ALTERED)
def test_an_altered_copy_is_near_and_other_patients_are_not(alter):
    scans = [phantom(i) for i in range(5)]
    prints = [fingerprint_of(*scan) for scan in scans]
    for i, scan in enumerate(scans):
        copy = fingerprint_of(*ALTERED[alter](*scan))
        assert distance_hu(copy, prints[i]) < NEAR_HU
        assert min(distance_hu(copy, other) for j, other in enumerate(prints) if j != i) > NEAR_HU


def test_a_distance_is_zero_to_itself_and_infinite_without_a_body():
    a = fingerprint_of(*phantom(0))
    assert distance_hu(a, a) == pytest.approx(0, abs=0.1)
    air = fingerprint_of(np.full((10, 64, 64), -1000, np.int16), (5.0, 5.0, 5.0))
    assert distance_hu(a, air) == distance_hu(air, a) == np.inf


def test_among_many_scans_the_near_ones_are_found():
    rng = np.random.default_rng(0)
    many = {f"{i}": Fingerprint(rng.normal(0, 200, (6, 23, 23)).astype(np.float16)) for i in range(50)}
    copy = Fingerprint(many["31"].stations[2:, ::-1] + np.float16(1))
    [found] = near_duplicates({"copy": copy}, many)
    assert (found.case, found.other) == ("copy", "31")
    [found] = near_duplicates(many | {"copy": copy})
    assert {found.case, found.other} == {"copy", "31"}


@pytest.fixture(scope="module")
def scans(tmp_path_factory, tiny):
    """A cohort in which a scan is in two files, the second one HU brighter."""
    import json

    import nibabel as nib

    folder = phantom_store(tmp_path_factory.mktemp("twice"), tiny, "Twice", seed=4, n_patients=6).root.parent
    scans = folder / "scans_Twice"
    image = nib.load(scans / "imagesTr/phantom_000.nii.gz")
    brighter = nib.Nifti1Image(np.asarray(image.dataobj) + np.int16(1), image.affine)
    nib.save(brighter, scans / "imagesTr/phantom_005.nii.gz")
    (scans / "labelsTr/phantom_005.nii.gz").write_bytes((scans / "labelsTr/phantom_000.nii.gz").read_bytes())
    lists = {"train": ["phantom_000", "phantom_001"], "validation": ["phantom_002"], "test": ["phantom_005"]}
    (folder / "splits.json").write_text(json.dumps(lists))
    return folder


def test_a_scan_one_hu_apart_on_two_sides_is_refused_with_the_distance(scans, tiny, tmp_path):
    both = with_settings(tiny, prepare={"split_file": str(scans / "splits.json")})
    with pytest.raises(ValueError, match=r"phantom_005 and phantom_000, (0|1)\.\d HU apart"):
        prepare(scans / "scans_Twice", tmp_path / "store", both.prepare)
    (tmp_path / "store/quarantine.csv").write_text("case,reason\nphantom_000,the same as phantom_005\n")
    store = prepare(scans / "scans_Twice", tmp_path / "store", both.prepare).store
    assert store.splits.train == ("phantom_001",)
    assert store.splits.test == ("phantom_005",)
    two = with_settings(both, prepare={"near_duplicate_hu": 0})
    prepare(scans / "scans_Twice", tmp_path / "other", two.prepare)


def test_a_quarantine_that_names_no_case_is_refused(store, tmp_path):
    import shutil

    copy = Store.open(shutil.copytree(store.root, tmp_path / "copy"))
    (copy.root / "quarantine.csv").write_text("case,reason\nnobody,\n")
    with pytest.raises(ValueError, match=r"quarantine\.csv names nobody, which the store does not have"):
        _ = copy.splits


def test_a_pool_with_an_altered_test_scan_is_refused_with_both_names(tiny, tmp_path):
    tested = phantom_store(tmp_path, tiny, "Tested", seed=5)
    other = phantom_store(tmp_path, tiny, "Other", seed=6)
    other_scans, [case, *_] = tmp_path / "scans_Other", tested.splits.test
    import nibabel as nib

    image = nib.load(tmp_path / f"scans_Tested/imagesTr/{case}.nii.gz")
    changed = np.asarray(image.dataobj)[:, :, 1:] + np.int16(1)
    nib.save(nib.Nifti1Image(changed, image.affine), other_scans / "imagesTr/phantom_004.nii.gz")
    leaking = prepare(other_scans, tmp_path / "leaking", tiny.prepare).store
    clean = phantom_store(tmp_path, tiny, "Clean", seed=8)
    for stores, leaks in (([leaking, clean], True), ([other, clean], False)):
        pool = pool_of(stores)
        if leaks:
            with pytest.raises(ValueError, match=rf"{case} is Other/phantom_004 \(.* HU apart\)"):
                refuse_shared_scans(tested, tested.splits.test, pool, pool.scans)
        else:
            refuse_shared_scans(tested, tested.splits.test, pool, pool.scans)


def test_the_stored_fingerprint_is_that_of_the_slices(store):
    for case in store.cases["case"][:2]:
        path = store.root / "fingerprints" / f"{case}.npy"
        made = fingerprint_of(store.read_case(case).image_hu.numpy(), store.spacing_mm(case))
        np.testing.assert_array_equal(store.fingerprint(case).stations, made.stations)
        assert path.is_file()
    assert all(
        distance_hu(store.fingerprint(a), store.fingerprint(b)) > NEAR_HU
        for a, b in itertools.combinations(store.cases["case"], 2)
    )
