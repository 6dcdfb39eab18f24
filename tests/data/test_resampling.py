"""Resampled labels are those of the nearest pixel of the scan; resampled images keep the mean and lose the noise."""

import json

import nibabel as nib
import numpy as np
import pytest

from experiments.runner.stages import scans_of
from pixelglobal.data.phantom import STRUCTURES
from pixelglobal.data.prepare import prepare
from pixelglobal.data.store import Store
from pixelglobal.data.stored_grid import SLICES_AT_ONCE, StoredGrid, resample_image
from pixelglobal.data.volumes import read_volume

SPACING_MM = 7.0  # of stored pixels; those of the phantom are larger


def test_labels_are_resampled_from_the_nearest_pixel(phantom_folder, tiny, tmp_path):
    file = nib.load(phantom_folder / "labelsTr/phantom_000.nii.gz")
    labels = np.asarray(file.dataobj).transpose(2, 1, 0)
    pixel_mm = float(file.header.get_zooms()[0])
    n = round(labels.shape[-1] * pixel_mm / SPACING_MM)
    assert n > labels.shape[-1]
    nearest = np.floor((np.arange(n) + 0.5) * labels.shape[-1] / n).astype(int)
    expected = labels[:, nearest][:, :, nearest]

    values = {"in_plane_spacing_mm": SPACING_MM, "image_size": 32 * (n // 32 + 1)}
    store = prepare(phantom_folder, tmp_path / "store", tiny.prepare.model_copy(update=values)).store
    stored = store.read_case("phantom_000").label.numpy()
    first = (stored.shape[-1] - n) // 2
    inside = stored[:, first : first + n, first : first + n]
    assert (inside == expected).mean() > 0.999  # a centre that lies between two pixels may fall to either
    assert set(np.unique(stored)) == set(np.unique(labels))


def test_pixels_that_become_larger_are_averaged_over_their_area():
    """Four times larger pixels: the mean of blocks of 4 x 4, so that noise of 30 HU becomes 7.5, instead of 15."""
    noise = np.random.default_rng(0).normal(0, 30, (3, 64, 64)).round().astype(np.int16)
    image = resample_image(noise, (2.0, 1.0, 1.0), 4.0, True)
    np.testing.assert_allclose(image, noise.reshape(3, 16, 4, 16, 4).mean((2, 4)), atol=1e-3)
    assert image.std() == pytest.approx(7.5, rel=0.1)
    assert resample_image(noise, (2.0, 1.0, 1.0), 4.0, False).std() > 13


def test_an_area_that_ends_within_a_pixel_takes_a_part_of_it():
    """Three pixels to two: each new one covers one and a half. The mean of the slice stays."""
    line = np.array([[[0, 300, 600]] * 2], np.int16)
    image = resample_image(line, (1.0, 1.5, 1.0), 1.5, True)
    np.testing.assert_allclose(image, [[[100, 500]] * 2], atol=1e-3)


def test_pixels_that_become_smaller_are_read_as_without_antialiasing():
    rough = np.random.default_rng(0).integers(-500, 300, (2, 20, 24)).astype(np.int16)
    smooth, point = (resample_image(rough, (2.0, 5.0, 5.0), 4.0, antialias) for antialias in (True, False))
    assert np.array_equal(smooth, point)


@pytest.mark.parametrize("spacing_mm", [None, 3.0, 16.0])
def test_slices_made_in_memory_are_those_of_the_store(phantom_folder, tiny, tmp_path, spacing_mm):
    asked = tiny.prepare.model_copy(update={"in_plane_spacing_mm": spacing_mm, "may_lose": STRUCTURES})
    store = prepare(phantom_folder, tmp_path / "store", asked).store
    case = store.cases["case"][0]
    scan = read_volume(phantom_folder / f"imagesTr/{case}.nii.gz", case=case, patient=case)
    stored = store.read_case(case)
    assert np.array_equal(store.grid.slices_of(scan.image_hu, scan.spacing_mm), stored.image_hu.numpy())
    labels, shape = stored.label.numpy(), scan.image_hu.shape[1:]
    assert np.array_equal(store.grid.paste_back(labels, shape, scan.spacing_mm, 0), store.paste_back(case, labels))


def test_how_many_slices_are_resampled_at_once_changes_nothing():
    scan = np.random.default_rng(0).integers(-1000, 300, (SLICES_AT_ONCE + 3, 40, 44)).astype(np.int16)
    grid, spacing_mm = StoredGrid(32, -1024, 325, 1.7, True), (3.0, 0.9, 2.1)
    one_by_one = [grid.slices_of(scan[i : i + 1], spacing_mm) for i in range(len(scan))]
    assert np.array_equal(grid.slices_of(scan, spacing_mm), np.concatenate(one_by_one))


def test_a_store_knows_whether_it_was_antialiased(phantom_folder, tiny, tmp_path):
    """Its address differs; a store of an older version was not; neither is continued by the other."""
    shrunk = tiny.prepare.model_copy(update={"in_plane_spacing_mm": 16.0})
    smooth = prepare(phantom_folder, tmp_path / "smooth", shrunk).store
    rough = prepare(phantom_folder, tmp_path / "rough", shrunk.model_copy(update={"antialias": False})).store
    assert (smooth.antialias, rough.antialias) == (True, False)
    case = smooth.splits.train[:1]
    assert smooth.read_case(case[0]).image_hu.float().std() < rough.read_case(case[0]).image_hu.float().std()
    assert scans_of(smooth, case) != scans_of(rough, case)
    for name in ("cohort.json", "prepare.json"):
        facts = json.loads((rough.root / name).read_text())
        del facts["antialias"]
        (rough.root / name).write_text(json.dumps(facts))
    (rough.root / "SHA256SUMS").unlink()
    assert Store.open(rough.root).antialias is False
    with pytest.raises(ValueError, match="antialias=None there, True now"):
        prepare(phantom_folder, rough.root, shrunk)


def test_the_ceiling_is_the_dice_of_labels_that_went_through_the_store(phantom_folder, store, tiny, tmp_path):
    """1 on the scan's own grid; below it on a coarse one, and what `paste_back` gives."""
    assert store.dice_ceiling == dict.fromkeys(store.structures, 1.0)
    coarse = prepare(phantom_folder, tmp_path / "coarse", tiny.prepare.model_copy(update={"in_plane_spacing_mm": 40.0}))
    dice = {name: [] for name in store.structures}
    for case in store.splits.train + store.splits.validation + store.splits.test:
        label = np.asarray(nib.load(store.label_path(case)).dataobj).transpose(2, 1, 0)
        pasted = coarse.store.paste_back(case, coarse.store.read_case(case).label.numpy())
        for c, name in enumerate(store.structures, 1):
            a, b = label == c, pasted == c
            dice[name].append(2 * (a & b).sum() / (a.sum() + b.sum()))
    expected = {name: np.mean(values) for name, values in dice.items()}
    assert coarse.store.dice_ceiling == pytest.approx(expected, abs=1e-4)
    assert max(expected.values()) < 1
