"""One pre-training for many cohorts: what stages a study with a pool has, and which cohorts it refuses."""

import json

import pytest

from experiments.runner.pipeline import pipeline_of
from experiments.runner.plan import make_plan
from experiments.selection import Request, select
from pixelglobal.config import with_settings
from tests.support import TINY, phantom_store


@pytest.fixture(scope="module")
def cohorts(tiny, tmp_path_factory):
    """Two cohorts to pre-train on, three to fine-tune on, and an external one of test patients alone."""
    folder = tmp_path_factory.mktemp("cohorts")
    made = {
        name: phantom_store(folder, tiny, name, seed=seed).root
        for seed, name in enumerate(("Pool1", "Pool2", "Kits", "Pelvic", "Neck"), 1)
    }
    alone = with_settings(tiny, prepare={"train_fraction": 0, "validation_fraction": 0})
    return made | {"Abroad": phantom_store(folder, alone, "Abroad", seed=9).root}


def selected(cohorts, out, stores=("Kits", "Pelvic", "Neck"), pool=("Pool1", "Pool2"), tests=(), study="comparison",
             overrides=(), **more):  # fmt: skip
    roots = {
        "stores": [cohorts[name] for name in stores],
        "pretrain_stores": [cohorts[name] for name in pool],
        "test_stores": [cohorts[name] for name in tests],
    }
    return select(Request(study, [*TINY, *overrides], out=out, preset="smoke", **roots, **more))


def pretrainings(selection):
    return {p.pretrain.name for p in selection.all_pipelines if p.pretrain is not None}


def test_three_cohorts_share_one_pretraining_for_each_method_and_seed(cohorts, tmp_path):
    selection = selected(cohorts, tmp_path, seeds="0,1", methods="random,gp,full")
    assert len(selection.all_pipelines) == 3 * 3 * 2
    assert len(pretrainings(selection)) == 2 * 2
    assert len({p.finetune.name for p in selection.all_pipelines}) == 3 * 3 * 2
    [line, other] = [x for x in make_plan(selection.all_pipelines, tmp_path, calibrate=False).lines
                     if x.kind == "pretrain"]  # fmt: skip
    assert (line.new, line.shared, other.new, other.shared) == (2, 2, 2, 2)


def test_without_a_pool_each_cohort_has_its_own(cohorts, tmp_path):
    assert len(pretrainings(selected(cohorts, tmp_path, pool=(), seeds="0"))) == 3


def test_the_address_knows_the_pool_and_not_what_comes_after(cohorts, tmp_path):
    def of(**words):
        return pretrainings(selected(cohorts, tmp_path, seeds="0", **words))

    assert of(stores=["Kits"]) == of(stores=["Neck"]) == of(pool=("Pool2", "Pool1"))
    assert of(stores=["Kits"], overrides=["finetune.epochs=5"]) == of(stores=["Kits"])
    assert of(pool=("Pool1",)) != of()
    weighted = of(overrides=['pretrain.source_weights={"Pool1": 3, "Pool2": 1}'])
    assert weighted != of()
    assert of(overrides=["pretrain.source_weights=balanced"]) == of()  # as many scans in both: nothing is repeated


def test_a_pool_of_one_shares_the_pretraining_of_that_cohort(cohorts, tmp_path):
    shared = selected(cohorts, tmp_path, stores=["Kits"], pool=["Neck"], seeds="0")
    alone = selected(cohorts, tmp_path, stores=["Neck"], pool=(), seeds="0")
    assert pretrainings(shared) == pretrainings(alone)


def test_random_weights_are_normalised_by_the_pool(cohorts, tmp_path):
    def of(pool):
        [pipeline] = selected(cohorts, tmp_path, stores=["Kits"], pool=pool, seeds="0", methods="random").all_pipelines
        return pipeline.finetune.name

    assert of(("Pool1", "Pool2")) == of(("Pool2", "Pool1")) != of(("Pool1",)) != of(())


def test_a_study_of_the_own_training_patients_has_no_pool(cohorts, tmp_path):
    with pytest.raises(ValueError, match=r"--pretrain-store has no effect on semi_supervised: pretrain\.cases=train"):
        selected(cohorts, tmp_path, study="semi_supervised")


def test_an_external_cohort_is_tested_with_every_store_of_its_structures(cohorts, tmp_path):
    selection = selected(cohorts, tmp_path, stores=["Kits", "Neck"], tests=["Abroad"], seeds="0", methods="full")
    assert [p.run.cohort for p in selection.all_pipelines] == ["Kits", "Neck", "Abroad after Kits", "Abroad after Neck"]
    own, _, abroad, _ = selection.all_pipelines
    assert own.finetune == abroad.finetune
    assert own.evaluate != abroad.evaluate
    assert len({p.run.name for p in selection.all_pipelines}) == 4


def test_a_cohort_of_test_patients_alone_is_no_store_to_train_on(cohorts, tmp_path):
    with pytest.raises(ValueError, match=r"no labelled patients in train, validation: .* is a --test-store"):
        selected(cohorts, tmp_path, stores=["Abroad"])


def test_another_structure_or_no_test_patient_is_refused(cohorts, tmp_path, tiny):
    folder = phantom_store(tmp_path, tiny, "Other", seed=5).root
    (folder / "SHA256SUMS").unlink()  # the files are edited on purpose
    facts = json.loads((folder / "cohort.json").read_text())
    (folder / "cohort.json").write_text(json.dumps({**facts, "structures": ["A", "B", "C", "D"]}))
    with pytest.raises(ValueError, match=r"has the structures A, B, C, D, which no --store has"):
        selected(cohorts | {"Other": folder}, tmp_path, tests=["Other"])
    splits = json.loads((folder / "splits.json").read_text())
    (folder / "splits.json").write_text(json.dumps({**splits, "test": []}))
    with pytest.raises(ValueError, match=r"no labelled patients in test; prepare it with prepare\.train_fraction=0"):
        selected(cohorts | {"Other": folder}, tmp_path, tests=["Other"])


def test_what_one_network_sees_is_prepared_in_one_way_or_refused_with_both_numbers(cohorts, tmp_path, tiny):
    both = {}
    for name, mm in (("Coarse", 9.0), ("Fine", 6.0)):
        settings = with_settings(tiny, prepare={"in_plane_spacing_mm": mm, "near_duplicate_hu": 0})
        both[name] = phantom_store(tmp_path, settings, name, seed=1).root
    numbers = r"in_plane_spacing_mm=9\.0, .* with in_plane_spacing_mm=6\.0; what one network sees"
    with pytest.raises(ValueError, match=numbers):
        selected(both, tmp_path, stores=["Fine"], pool=["Coarse"])
    with pytest.raises(ValueError, match=numbers):
        selected(both, tmp_path, stores=["Fine"], pool=(), tests=["Coarse"])
    assert selected(both, tmp_path, stores=["Fine", "Coarse"], pool=())  # each has networks of its own


def test_a_trial_opens_the_run_that_was_sent(cohorts, tmp_path):
    from experiments.runner.tune import _opened, _work

    for pipeline in selected(cohorts, tmp_path, tests=["Abroad"], seeds="0").all_pipelines:
        assert _opened(_work(pipeline, tmp_path)) == pipeline_of(pipeline.run, tmp_path)
