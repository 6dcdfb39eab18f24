"""Many draws of labelled patients, few pre-trainings: what the runs of label_efficiency share."""

from experiments.runner.pipeline import pipeline_of
from experiments.studies import STUDIES
from pixelglobal import config as settings

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
