"""Detection of lesions: by hand, against panoptica, and what must hold for any masks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from scipy.ndimage import gaussian_filter

from pixelglobal.evaluation.lesions import score_lesions
from pixelglobal.evaluation.metrics import dice, score_case

masks = st_np.arrays(bool, (2, 6, 7), elements=st.booleans())

# panoptica 2.1.7, connected components matched by IOU from 0.1: n_ref_instances, n_pred_instances, tp, sq_dsc
PANOPTICA = {
    0: (12, 16, 10, 0.4551289652302925), 1: (10, 12, 7, 0.5825154666157675), 2: (14, 13, 9, 0.5545561598621073),
    3: (14, 16, 12, 0.5926655444806703), 4: (14, 14, 10, 0.6947374131664227), 5: (13, 9, 7, 0.7065415870622485),
}  # fmt: skip


@pytest.mark.parametrize("seed", PANOPTICA)
def test_against_panoptica(seed):
    rng = np.random.default_rng(seed)
    field, noise = (gaussian_filter(rng.normal(size=(10, 24, 24)), 1.6) for _ in range(2))
    reference = field > np.quantile(field, 0.93)
    prediction = (field + 0.5 * noise) > np.quantile(field + 0.5 * noise, 0.93)
    score = score_lesions(prediction, reference)
    assert (score.n_lesions, score.n_findings, score.n_found) == PANOPTICA[seed][:3]
    assert score.dice == pytest.approx(PANOPTICA[seed][3])


def test_a_finding_over_two_lesions_finds_one():
    reference = np.zeros((1, 1, 12), bool)
    reference[0, 0, 1:5] = reference[0, 0, 6:9] = True
    prediction = np.zeros_like(reference)
    prediction[0, 0, 1:9] = True
    score = score_lesions(prediction, reference)
    assert (score.n_lesions, score.n_findings, score.n_found) == (2, 1, 1)
    assert score.dice == pytest.approx(2 * 4 / (4 + 8))


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    reference = np.zeros((2, 3, 3), bool)
    reference[0, 0, 0] = reference[1, 1, 1] = True
    assert score_lesions(reference, reference).n_lesions == 1


def test_a_grazed_lesion_was_not_found():
    reference, prediction = np.zeros((2, 1, 1, 40), bool)
    reference[..., :20], prediction[..., 19:39] = True, True
    assert score_lesions(prediction, reference).n_found == 0
    assert score_lesions(prediction, reference, least_overlap=0.02).n_found == 1


@given(masks, masks)
@settings(max_examples=100, deadline=None)
def test_laws(prediction, reference):
    score, mirrored = score_lesions(prediction, reference), score_lesions(reference, prediction)
    assert score.n_found == mirrored.n_found <= min(score.n_lesions, score.n_findings)
    assert (score.n_lesions, score.n_findings) == (mirrored.n_findings, mirrored.n_lesions)
    assert math.isnan(score.dice) == (score.n_found == 0)
    same = score_lesions(reference, reference)
    assert same.n_found == same.n_lesions
    if score.n_lesions == score.n_findings == score.n_found == 1:
        assert score.dice == pytest.approx(dice(prediction, reference))


def test_rows_count_the_lesions_of_structures_that_are_made_of_them():
    reference, predicted = np.zeros((2, 3, 8, 8), np.uint8)
    reference[1, 1:3, 1:3], reference[1, 6, 6], reference[0, 0, 0] = 2, 2, 1
    predicted[1, 1:3, 1:3] = 2
    rows = score_case(predicted, reference, (3, 1, 1), ["Kidney", "Kidney tumour"])
    volumes = {row["structure"]: row for row in rows if row["slice_index"] == -1}
    assert "n_lesions" not in volumes["Kidney"]
    tumour = volumes["Kidney tumour"]
    assert (tumour["n_lesions"], tumour["n_findings"], tumour["n_lesions_found"], tumour["lesion_dice"]) == (
        2,
        1,
        1,
        1.0,
    )
    hidden = score_case(predicted, reference, (3, 1, 1), ["Kidney", "Kidney tumour"], contoured=[True, False])
    assert "n_lesions" not in hidden[-1]
