"""Many draws of labelled patients, few pre-trainings: what the runs of label_efficiency share."""

import pandas as pd

from experiments.runner.pipeline import pipeline_of
from experiments.studies import STUDIES
from experiments.studies.verdict import Contrast, GainRule
from pixelglobal import config as settings
from tests.support import rows_of, wave

STUDY = STUDIES["label_efficiency"]


def pipelines(tiny, store, out, methods=(), seeds=(0, 1, 4)):
    runs = STUDY.runs(tiny, [store], seeds=seeds, methods=methods)
    return [pipeline_of(run, out) for run in runs if run.config.finetune.patients == 1]


def test_runs_share_pretrainings_in_turn_and_nothing_after(tiny, store, tmp_path):
    first, second, fifth = pipelines(tiny, store, tmp_path, ["full_matched"])
    assert first.pretrain == fifth.pretrain
    assert first.pretrain != second.pretrain
    assert first.finetune != fifth.finetune
    assert settings.with_settings(tiny, pretrain={"seed": 3}).pretraining_seed == 3
    assert tiny.pretraining_seed == tiny.seed


def test_self_training_begins_with_the_fine_tuning_of_its_plain_method(tiny, store, tmp_path):
    plain, with_self = pipelines(tiny, store, tmp_path, ["random", "random_self"], seeds=(0,))
    assert plain.pretrain is None
    assert with_self.pretrain is None
    assert with_self.teacher == plain.finetune
    assert with_self.finetune != plain.finetune
    assert [stage.kind for stage in with_self.stages] == ["finetune", "finetune", "evaluate"]


def test_both_numbers_of_patients_are_run_and_four_decide():
    assert STUDY.label_counts == (1, 4)
    assert "Read at 4 labelled patients." in STUDY.criterion
    assert "below +2 DSC points" in STUDY.criterion


def test_runs_of_one_pretraining_count_once_and_the_rule_reads_at_four_patients():
    dice = {
        "full_matched": lambda seed, i, s: 0.70 + 0.01 * (seed % 3) + wave(i),
        "random": lambda seed, i, s: 0.66 + wave(i + seed),
    }
    made = rows_of(dice, range(6), slices=0).assign(labelled_patients=4)
    made["pretraining_seed"] = made["seed"] % 3
    worse = made.assign(labelled_patients=1, dice=made["dice"] * (made["method"] == "random"))
    rule = GainRule(labelled_patients=4)
    verdict = rule(pd.concat([made, worse]), [Contrast("full_matched", "random")])
    assert verdict.state == "reproduced"
    assert "6 runs from 3 pre-trainings, 8 patients" in verdict.reason
    [tested] = verdict.tested
    assert (tested.n_runs, tested.comparison.n_runs) == (6, 3)
    assert rule(worse, [Contrast("full_matched", "random")]).state == "undecided"
    few = made.assign(pretraining_seed=made["seed"] % 2)
    assert "has 2 runs with the same seeds" in rule(few, [Contrast("full_matched", "random")]).reason
