"""Honest probabilities have no calibration error, and an uncertainty that knows nothing covers a tenth of errors."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from pixelglobal.evaluation.calibration import Reliability, calibration_of, error_covered, reliability_figure


def drawn(sharpness, n=200_000):
    """Probabilities of labels that are right as often as they say, and then made sharper or blunter by a power."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0.5, 1, n)
    return true**sharpness, rng.uniform(size=n) < true


def test_the_error_of_honest_probabilities_is_none_and_grows_as_they_lie():
    errors = [Reliability.of(*drawn(sharpness)).expected_calibration_error for sharpness in (1, 0.5, 0.2)]
    assert errors[0] < 0.005
    assert errors[0] < errors[1] < errors[2]
    true, lied = drawn(1)[0], drawn(0.5)[0]
    assert errors[1] == pytest.approx((lied - true).mean(), abs=0.005)


def test_bins_of_scans_add_up_to_those_of_all():
    confidence, right = drawn(0.7, 1000)
    whole = Reliability.of(confidence, right)
    parts = Reliability.of(confidence[:300], right[:300]) + Reliability.of(confidence[300:], right[300:])
    for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True):
        np.testing.assert_allclose(a, b)


def test_error_covered_is_all_for_a_perfect_uncertainty_and_a_tenth_for_none():
    rng = np.random.default_rng(0)
    wrong = rng.uniform(size=20_000) < 0.08
    assert error_covered(wrong.astype(float), wrong) == 1
    assert error_covered(rng.uniform(size=wrong.size), wrong) == pytest.approx(0.1, abs=0.02)
    assert error_covered(np.zeros(wrong.size), wrong) == pytest.approx(0.1)
    assert error_covered(1 - wrong.astype(float), wrong) == pytest.approx(0.0, abs=0.01)
    assert np.isnan(error_covered(np.zeros(10), np.zeros(10, bool)))


def test_only_the_box_around_the_structures_counts():
    """Sure and right far from any structure, half right inside: with the whole slice it would look calibrated."""
    shape = (2, 64, 64)
    reference, predicted, confidence = (np.zeros(shape, kind) for kind in (np.uint8, np.uint8, float))
    confidence += 0.99
    reference[:, 30:34, 30:34], predicted[:, 30:34, 32:36] = 1, 1
    everywhere = np.ones(shape, bool)
    measures, reliability = calibration_of(predicted, reference, confidence, 1 - confidence, everywhere)
    assert reliability.count.sum() == 2 * 4 * 6
    assert measures["voxel_accuracy"] == pytest.approx(1 / 3)
    assert measures["expected_calibration_error"] == pytest.approx(0.99 - 1 / 3)
    known = predicted != 1  # nobody contoured it
    assert calibration_of(predicted, reference, confidence, 1 - confidence, known)[1].count.sum() == 2 * 4 * 2
    nothing = np.zeros(shape, np.uint8)
    assert np.isnan(
        calibration_of(nothing, nothing, confidence, confidence, everywhere)[0]["expected_calibration_error"]
    )


def test_the_figure_shows_the_bins_with_voxels():
    figure = reliability_figure(Reliability.of(*drawn(0.5)))
    [points] = figure.axes[0].collections
    assert len(points.get_offsets()) == 5  # from 0.71 to 1 in fifteenths
    assert figure.axes[0].get_title().startswith("Expected calibration error 1")
    assert plt.get_fignums() == []  # nothing is left open
