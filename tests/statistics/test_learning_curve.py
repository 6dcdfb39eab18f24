"""Patients for a wanted error: a power law is found again, and its interval holds it."""

import math

import numpy as np
import pytest

from pixelglobal.statistics.learning_curve import patients_for_error
from pixelglobal.tables.patients_needed import patients_needed
from tests.support import rows_of


def errors(rng, counts, runs=5, patients=20, exponent=0.4, run_sd=0.05, patient_sd=0.2):
    means = 50 * np.array(counts, float) ** -exponent
    noise = run_sd * rng.normal(size=(len(counts), runs, 1)) + patient_sd * rng.normal(size=(1, 1, patients))
    return means[:, None, None] * np.exp(noise)


def test_the_interval_covers_the_true_number_about_as_often_as_it_says():
    counts, rng, covered = [4, 8, 16, 32], np.random.default_rng(0), 0
    for _ in range(60):
        noisy = errors(rng, counts, runs=12, patients=40)
        true = (50 * math.exp(0.2**2 / 2 + 0.05**2 / 2) / 10) ** (1 / 0.4)
        result = patients_for_error(noisy, counts, 10.0, n_resamples=200)
        covered += result.low <= true <= result.high
    assert covered >= 50


def test_a_curve_that_does_not_fall_never_arrives():
    flat = np.full((3, 3, 4), 20.0) + np.arange(3)[:, None, None]
    result = patients_for_error(flat, [1, 2, 4], 5.0, n_resamples=50)
    assert math.isinf(result.needed)
    assert math.isinf(result.high)


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(ValueError, match="at 2 numbers of labelled patients or more"):
        patients_for_error(np.ones((1, 2, 2)), [4], 0.5)
    with pytest.raises(ValueError, match="less than a perfect score"):
        patients_for_error(np.ones((2, 2, 2)), [4, 8], 0.0)
    rows = rows_of({"full": lambda seed, i, s: 0.5})
    with pytest.raises(ValueError, match="no column labelled_patients"):
        patients_needed(rows, "full", 80, 1)
    with pytest.raises(ValueError, match="--method random: expected one of full"):
        patients_needed(rows.assign(labelled_patients=4), "random", 80, 1)
    with pytest.raises(ValueError, match="--wanted-dice 180: expected a number of per cent"):
        patients_needed(rows.assign(labelled_patients=4), "full", 180, 1)
