"""The average of runs whose labelled patients lack a structure, and runs that share a pre-training."""

import numpy as np
import pandas as pd
import pytest

from experiments.report.patients import averages, patient_dots
from pixelglobal.tables.averages import score_table
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.contrasts import method_contrasts
from pixelglobal.tables.metric import metric_of
from pixelglobal.tables.owed_scores import owed_scores
from pixelglobal.tables.rows import complete_rows
from tests.support import rows_of, wave

SEEDS = (0, 1, 2, 3, 4, 5)
DICE = {
    "full": lambda seed, i, s: 0.0 if s == "B" and seed % 2 else 0.7 + 0.01 * (seed % 3) + wave(i),
    "random": lambda seed, i, s: 0.0 if s == "B" and seed % 2 else 0.6 + wave(i + seed),
}


def rows():
    """Nobody labelled B for the odd seeds; seeds 0 and 3, 1 and 4, 2 and 5 share a pre-training."""
    made = rows_of(DICE, SEEDS, slices=0)
    return made.assign(labelled=(made["structure"] == "A") | (made["seed"] % 2 == 0), pretraining_seed=made["seed"] % 3)


def table_of(made):
    owed = owed_scores(complete_rows(made), ["full", "random"], with_slices=False)
    return score_table(owed.volumes, metric_of("dice"), ["full", "random"], ["A", "B"])


def test_a_structure_that_nobody_labelled_is_left_out_of_the_run_and_no_zero():
    made = rows()
    volumes = made[made["slice_index"] == -1]
    known = volumes[volumes["labelled"] & (volumes["method"] == "full")]
    by_run = known.groupby(["seed", "structure"])["dice"].mean().groupby("seed").mean()
    table = table_of(made)
    assert table.run_means("full") == pytest.approx(100 * by_run.to_numpy())
    assert table.mean("full", "B") == pytest.approx(100 * known[known["structure"] == "B"]["dice"].mean())
    assert table.contributions("full", "B").shape == (3, 8)
    without = table_of(made.drop(columns="labelled"))
    assert without.mean("full", None) < table.mean("full", None) - 15


def test_runs_from_one_pretraining_are_one_piece_of_evidence():
    table = table_of(rows())
    names, scores = table.independent_runs("full", None)
    each = table.contributions("full", None)
    assert names == [0, 1, 2]
    assert scores == pytest.approx(np.stack([(each[i] + each[i + 3]) / 2 for i in range(3)]))
    [contrast] = method_contrasts(table, "full", None)
    assert contrast.n_runs == 3
    assert contrast.difference == pytest.approx(table.mean("full", None) - table.mean("random", None))
    [alone] = method_contrasts(table_of(rows().drop(columns="pretraining_seed")), "full", None)
    assert alone.n_runs == 6


def test_the_gain_is_the_difference_of_the_printed_means_however_draws_share_pretrainings():
    """Structure B is labelled in 2 draws of pre-training 0 and in one of each other; each pre-training counts once."""
    made = rows()
    made = made.assign(labelled=made["labelled"] | made["seed"].isin([3]))
    shift = np.where((made["method"] == "full") & (made["pretraining_seed"] == 0), 0.2, 0.0)
    table = table_of(made.assign(dice=made["dice"] / 2 + shift))
    draws = table.labelled["full"][:, table.structures.index("B")]
    shared = [table.pretraining[seed] for seed, there in zip(table.runs["full"], draws, strict=True) if there]
    assert sorted(shared) == [0, 0, 1, 2]
    for structure in ("A", "B", None):
        [contrast] = method_contrasts(table, "full", structure)
        means = {method: table.mean(method, structure) for method in table.values}
        assert means["full"] - means[str(contrast.method_b)] == pytest.approx(contrast.difference)
    dots = pd.DataFrame(patient_dots(made, ["full"]))
    assert len(dots) == made[made["method"] == "full"].groupby(["seed", "patient"]).ngroups
    assert averages(made, ["full"]) == {"full": table_of(made).mean("full", None)}


def test_the_card_names_what_is_left_out():
    card = " ".join(comparison_table(rows(), reference="full", title="T").metric_card)
    assert "6 training runs a method from 3 pre-trainings" in card
    assert "lack it, and of the average of these: B (3 runs; DSC (%) there 0.00)" in card


def test_methods_of_a_seed_have_the_same_labelled_patients_and_pretraining():
    made = rows()
    other = made.assign(labelled=made["labelled"] | (made["method"] == "full"))
    with pytest.raises(ValueError, match=r"labelled is said to be .* runs with one seed share their labelled patients"):
        complete_rows(other)
    moved = made.assign(pretraining_seed=made["pretraining_seed"] + (made["method"] == "full"))
    with pytest.raises(ValueError, match="several values of pretraining_seed"):
        table_of(moved)
