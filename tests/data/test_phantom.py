"""The phantom: it follows its seed, reads like CT, and is neither trivial nor hopeless."""

import json

import numpy as np
import pytest

from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.phantom import STRUCTURES, make_phantom, make_phantom_cohort
from pixelglobal.data.volumes import read_volume


@pytest.fixture(scope="module")
def patients():
    return [make_phantom(np.random.default_rng([0, i]), size=64, n_slices=16) for i in range(12)]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_cohort_follows_its_seed(tmp_path):
    a, b, c = (
        contents(make_phantom_cohort(tmp_path / str(k), n_patients=2, n_unlabelled=1, size=32, n_slices=4, seed=seed))
        for k, seed in enumerate((0, 0, 1))
    )
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a if name.startswith("imagesTr"))


def test_more_patients_leave_the_first_as_they_are(tmp_path):
    few, many = (
        contents(make_phantom_cohort(tmp_path / str(n), n_patients=n, n_unlabelled=0, size=32, n_slices=4))
        for n in (1, 3)
    )
    assert few["imagesTr/phantom_000.nii.gz"] == many["imagesTr/phantom_000.nii.gz"]


def test_it_is_read_as_a_cohort(phantom_folder):
    cohort = read_cohort(phantom_folder)
    assert cohort.structures == STRUCTURES
    assert cohort.left_right_pairs == (("LeftFemur", "RightFemur"),)
    assert [c.label is not None for c in cohort.cases] == [True] * 6 + [False] * 2
    assert json.loads((phantom_folder / "dataset.json").read_text())["patients"].keys() == {
        c.case for c in cohort.cases
    }


def test_files_hold_what_was_made(phantom_folder):
    image, labels, spacing_mm = make_phantom(np.random.default_rng([0, 0]), size=32, n_slices=8)
    case = read_cohort(phantom_folder).cases[0]
    volume = read_volume(case.image, case.label, case=case.case, patient=case.patient, n_structures=4)
    assert (volume.image_hu == image).all()
    assert (volume.labels == labels).all()
    assert volume.spacing_mm == pytest.approx(spacing_mm, rel=1e-6)


def test_every_patient_has_every_structure_and_empty_slices_at_both_ends(patients):
    for _, labels, _ in patients:
        assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
        assert not labels[0].any()
        assert not labels[-1].any()


def test_left_is_left_and_front_is_front(patients):
    """Columns run from the patient's left to the right, rows from back to front."""
    for _, labels, _ in patients:
        bladder, rectum, left, right = (np.argwhere(labels == k).mean(0) for k in (1, 2, 3, 4))
        assert left[2] < bladder[2] < right[2]
        assert rectum[1] < bladder[1]


def test_hu_are_those_of_tissues(patients):
    for image, labels, _ in patients:
        assert image.dtype == np.int16
        assert image.min() >= -1024
        assert np.median(image[:, :3, :3]) == pytest.approx(-1000, abs=20)
        assert -30 < np.median(image[labels == 1]) < 60  # fluid
        assert np.median(image[np.isin(labels, (3, 4))]) > 250  # bone
        assert np.percentile(image[labels == 2], 1) < 60
        assert (image > 250).mean() < 0.1


def test_patients_differ(patients):
    for k in range(1, 5):
        volumes_ml = [(labels == k).sum() * np.prod(spacing) / 1000 for _, labels, spacing in patients]
        assert np.std(volumes_ml) / np.mean(volumes_ml) > 0.1
    assert len({spacing for _, _, spacing in patients}) == len(patients)


def test_hu_alone_do_not_give_the_organs_away(patients):
    """Of all pixels with the HU of a bladder, few are bladder; left and right femur have the same HU."""
    image, labels = (np.concatenate([p[k].ravel() for p in patients]) for k in (0, 1))
    low, high = np.percentile(image[labels == 1], (10, 90))
    alike = (image >= low) & (image <= high)
    assert (labels[alike] == 1).mean() < 0.3
    left, right = (np.median(image[labels == k]) for k in (3, 4))
    assert abs(left - right) < 80
