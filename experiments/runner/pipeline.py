"""The pipeline of a training run: pre-train, fine-tune (twice in a self-training), evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.runner.stages import Stage, evaluate_stage, finetune_stage, pretrain_stage
from experiments.studies.study import StudyRun
from pixelglobal.training.labelled import choose_patients


@dataclass(frozen=True)
class Pipeline:
    """The stages of one run, each with the folder of its result."""

    run: StudyRun
    pretrain: Stage | None
    teacher: Stage | None  # the first fine-tuning of a self-training
    finetune: Stage
    evaluate: Stage
    train_cases: tuple[str, ...]

    @property
    def stages(self) -> list[Stage]:
        """In the order in which they run."""
        return [stage for stage in (self.pretrain, self.teacher, self.finetune, self.evaluate) if stage is not None]

    @property
    def rows(self) -> Path:
        """The rows of the evaluation."""
        return self.evaluate.folder / "rows.parquet"

    @property
    def labelled_patients(self) -> int:
        """How many patients' labels fine-tuning sees."""
        cases = self.run.store.cases
        return int(cases[cases["case"].isin(self.train_cases)]["patient"].nunique())

    def error(self) -> str | None:
        """The traceback of the stage that failed, if one did."""
        for stage in self.stages:
            if (stage.folder / "error.txt").is_file():
                return (stage.folder / "error.txt").read_text()
        return None


def pipeline_of(run: StudyRun, out: Path) -> Pipeline:
    """The stages that a run needs; nothing is computed."""
    config, store = run.config, run.store
    train = choose_patients(store, config.finetune.patients, config.seed)
    first = pretrain_stage(out, config, run.scans) if run.pretrained else None
    labels = (train, store.splits.validation)
    self_training = config.finetune.pseudo_labels
    teacher = finetune_stage(out, config, store, first, *labels, normalized_by=run.scans) if self_training else None
    second = finetune_stage(out, config, store, first, *labels, teacher=teacher, normalized_by=run.scans)
    cases = getattr(run.tested.splits, config.evaluate.split)
    return Pipeline(run, first, teacher, second, evaluate_stage(out, config, run.tested, second, cases), tuple(train))
