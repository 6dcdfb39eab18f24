"""Scans of the training cohort are rarely flagged, others are, and an image that is no CT always is."""

import re

import numpy as np
import pytest

from pixelglobal.training.cohort_statistics import (
    FALSE_FLAG_RATE,
    HU_PERCENTILES,
    CohortStatistics,
    Description,
    Group,
)

USUAL_HU = np.array([-1010.0, -990, -120, -20, 40, 90, 300])


def scan(rng, *, spacing_mm=3.0, hu_shift=0.0, feature_shift=0.0):
    """A description that varies as scans of one cohort do."""
    geometry = np.log([spacing_mm, 1.0, 1.0, 500.0, 500.0]) + rng.normal(0, 0.1, 5)
    return Description(geometry, USUAL_HU + rng.normal(0, 20, 7) + hu_shift, rng.normal(feature_shift, 1, 24))


def statistics(rng, patients=12, **usual):
    return CohortStatistics.of([scan(rng, **usual) for _ in range(patients)], [str(i) for i in range(patients)])


@pytest.mark.parametrize("patients", [6, 20])
def test_a_scan_of_the_cohort_is_flagged_about_as_often_as_is_said(patients):
    rng = np.random.default_rng(0)
    flagged = [bool(statistics(rng, patients).flags(scan(rng))) for _ in range(250)]
    assert 0.2 * FALSE_FLAG_RATE < np.mean(flagged) < 2 * FALSE_FLAG_RATE


def test_what_is_unlike_the_cohort_is_named():
    rng = np.random.default_rng(1)
    cohort = statistics(rng)
    assert cohort.flags(scan(rng)) == []
    [reason] = cohort.flags(scan(rng, spacing_mm=12.0))
    assert re.fullmatch(r"spacing_z_mm is 1\d(\.\d)?, of the training scans about [23](\.\d+)?", reason)
    assert any("th percentile is" in reason for reason in cohort.flags(scan(rng, hu_shift=300)))
    assert cohort.flags(scan(rng, feature_shift=6)) == ["the encoder's features are unlike those of the training scans"]


@pytest.mark.parametrize(("values", "said"), [((0, 900), "is below 0"), ((-1000, -900), "is above -900")])
def test_what_is_no_ct_is_flagged_however_few_the_patients_are(values, said):
    rng = np.random.default_rng(2)
    cohort = statistics(rng, patients=2)
    assert all(np.isinf(group.limit) for group in cohort.groups.values())
    hu = np.linspace(*values, len(HU_PERCENTILES))
    [reason] = cohort.flags(Description(scan(rng).geometry, hu, scan(rng).features))
    assert said in reason


def test_a_cohort_without_air_does_not_take_its_own_scans_for_mr():
    rng = np.random.default_rng(3)
    inside = statistics(rng, hu_shift=1000)
    assert inside.flags(scan(rng, hu_shift=1000)) == []


def test_a_patient_with_several_scans_is_left_out_with_all_of_them():
    """Two equal scans of each patient: as one would stand in for the other, every distance would be small."""
    rng = np.random.default_rng(4)
    scans = [scan(rng) for _ in range(8)]
    twice = CohortStatistics.of([*scans, *scans], [str(i) for i in range(8)] * 2)
    once = CohortStatistics.of(scans, [str(i) for i in range(8)])
    assert twice.n_patients == 8
    for name, group in once.groups.items():
        assert isinstance(group, Group)
        assert twice.groups[name].limit == pytest.approx(group.limit, rel=0.25)
