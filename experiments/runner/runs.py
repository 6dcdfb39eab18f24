"""The runs of a study and the stages that each one needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from experiments.runner.stages import Stage, evaluate_stage, finetune_stage, pretrain_stage
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.training.labelled import choose_patients


@dataclass(frozen=True)
class Cell:
    """One row of a study: a method with one seed on one cohort. `config` has the seed and the method's settings."""

    study: str
    method: str
    config: Config
    pretrained: bool  # False: random initialisation
    store: Store
    cohort: str  # the store's name, made different from that of another store of the same study
    part: str = ""  # of the study, such as 4patients

    @property
    def name(self) -> str:
        """A readable name, such as comparison-full-kits19-seed1."""
        method = self.method.rpartition(":")[2]
        words = (self.study, method, self.part, one_word(self.cohort), f"seed{self.config.seed}")
        return "-".join(word for word in words if word)


def one_word(cohort: str) -> str:
    """A cohort in names of cells and files."""
    return re.sub(r"[^a-z0-9]+", "_", cohort.lower()).strip("_")


@dataclass(frozen=True)
class Chain:
    """The stages of a cell."""

    cell: Cell
    pretrain: Stage | None
    finetune: Stage
    evaluate: Stage
    train_cases: tuple[str, ...]

    @property
    def stages(self) -> list[Stage]:
        """In the order in which they run."""
        return [stage for stage in (self.pretrain, self.finetune, self.evaluate) if stage is not None]

    @property
    def rows(self) -> Path:
        """The rows of the evaluation."""
        return self.evaluate.folder / "rows.parquet"

    @property
    def labelled_patients(self) -> int:
        """How many patients' labels fine-tuning sees."""
        cases = self.cell.store.cases
        return int(cases[cases["case"].isin(self.train_cases)]["patient"].nunique())

    def error(self) -> str | None:
        """The traceback of the stage that failed, if one did."""
        for stage in self.stages:
            if (stage.folder / "error.txt").is_file():
                return (stage.folder / "error.txt").read_text()
        return None


def chain_of(cell: Cell, out: Path) -> Chain:
    """The stages that a cell needs; nothing is computed."""
    config, store = cell.config, cell.store
    train = choose_patients(store, config.finetune.patients, config.seed)
    first = pretrain_stage(out, config, store) if cell.pretrained else None
    second = finetune_stage(out, config, store, first, train, store.splits.validation)
    cases = getattr(store.splits, config.evaluate.split)
    return Chain(cell, first, second, evaluate_stage(out, config, store, second, cases), tuple(train))
