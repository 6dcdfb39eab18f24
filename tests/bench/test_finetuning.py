"""The bench of recipes scores development patients alone, and keeps every training that is done."""

import pandas as pd
import pytest

from experiments.bench.finetuning import COMPLETE, OLD, RECIPES, bench_finetuning, development_patients
from experiments.bench.finetuning_peers import PEERS
from pixelglobal import config as settings
from tests.support import TINY

NETWORK = [*TINY, "network.encoder=test_resnet"]


def test_no_test_patient_and_no_labelled_one_is_scored(store):
    labelled = store.splits.train[:1]
    scored = development_patients(store, labelled, 0, 100)
    assert set(scored) == {*store.splits.train, *store.splits.validation} - set(labelled)
    assert development_patients(store, labelled, 0, 2) == scored[:2]


def test_rows_are_kept_and_what_is_done_is_not_trained_again(store, tmp_path):
    file = tmp_path / "rows.csv"
    names = ["0.1.0", "nnU-Net-like", "default"]
    first = bench_finetuning(store, file, names[:2], [2], [0], overrides=NETWORK, n_patients=1)
    assert [row["recipe"] for row in first.rows] == names[:2]
    before = pd.read_csv(file)
    assert {"steps", "seed", "mean", COMPLETE, "seconds", *store.structures} <= set(before)
    assert before["mean"].between(0, 100).all()
    again = bench_finetuning(store, file, names, [2], [0], overrides=NETWORK, n_patients=1)
    assert [row["recipe"] for row in again.rows] == names
    pd.testing.assert_frame_equal(pd.read_csv(file)[:2], before)
    assert again.rows[0]["minus default (SE)"]


def test_every_recipe_is_a_set_of_settings_and_the_old_one_changes_all_that_is_new():
    default = settings.resolve("small").finetune
    for recipe in (*RECIPES.values(), *PEERS.values()):
        settings.resolve("small", {"finetune": recipe})
    changed = {name for name, value in OLD.items() if getattr(default, name) != value}
    assert changed == set(OLD)
    assert {"classifier_bias", "by_structure_fraction", "warmup_fraction", "dice_weight"} < changed


def test_an_unknown_recipe_is_refused_with_the_known_ones(store, tmp_path):
    with pytest.raises(ValueError, match=r"unknown recipe 'new': choose of default, 0\.1\.0, .*nnU-Net-like"):
        bench_finetuning(store, tmp_path / "rows.csv", ["new"], [1], [0])
