"""What a study is: one question, the runs that answer it, the contrasts that are tested and the rule for a verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.studies.grid import WITHOUT_PRETRAINING, labelled_patients, method_config, tested_cohorts
from experiments.studies.verdict import Contrast, GainRule, Verdict
from pixelglobal.config.overrides import from_dict, with_settings
from pixelglobal.config.schema import Config
from pixelglobal.config.tolerance import tolerances_mm
from pixelglobal.data.pool import Scans, pool_of
from pixelglobal.data.store import Store

Settings = Mapping[str, Mapping[str, Any]]  # of sections, as `with_settings` takes them


@dataclass(frozen=True)
class StudyRun:
    """One training run of a study: a method with one seed on one cohort. `config` has the seed and the settings."""

    study: str
    method: str
    config: Config
    pretrained: bool  # False: random initialisation
    store: Store
    cohort: str  # the name of the store that is tested, made different from that of another of the same study
    part: str = ""  # of the study, such as 4patients
    pool: tuple[Store, ...] = ()  # pre-trained on together; none: the store's own pre-training split
    test_store: Store | None = None  # an external cohort whose test patients are segmented; None: the store's own

    @cached_property
    def scans(self) -> Scans:
        """What the pre-training sees; random weights get the same intensity scale."""
        return pool_of(self.pool, self.config.pretrain.source_weights) if self.pool else self.store

    @property
    def pretraining_roots(self) -> list[Path]:
        """The folders of the stores that the pre-training sees."""
        return [store.root for store in self.pool or (self.store,)]

    @property
    def tested(self) -> Store:
        """The cohort whose test patients are segmented."""
        return self.test_store or self.store

    @property
    def name(self) -> str:
        """A readable name, such as comparison-full-kits19-seed1."""
        method = self.method.rpartition(":")[2]
        words = (self.study, method, self.part, one_word(self.cohort), f"seed{self.config.seed}")
        return "-".join(word for word in words if word)


def one_word(cohort: str) -> str:
    """A cohort in names of runs and files."""
    return re.sub(r"[^a-z0-9]+", "_", cohort.lower()).strip("_")


@dataclass(frozen=True)
class Variation:
    """A method that only one study knows: another method with other values of some settings."""

    base: str
    settings: Settings


@dataclass(frozen=True)
class Study:
    """A question of the paper, or ours to the paper, with everything that it takes to answer it.

    methods: what is run unless the command line names others. reference: the method that tables compare the others
    with. contrasts: what is tested; the verdict is that of `rule` on the primary ones. settings: what all its methods
    change in the config. variations: methods of this study alone. label_fractions: shares of the training patients
    whose labels are used, one run for each; label_counts: the same as numbers of patients; without any,
    `finetune.patients` says how many. pretraining_seeds: how many seeds the pre-trainings of a method have, which runs
    with more seeds share in turn; None: each run has its own.
    """

    name: str
    title: str
    question: str
    unit_of_analysis: str
    cost: str
    paper_says: str
    methods: tuple[str, ...]
    reference: str
    contrasts: tuple[Contrast, ...]
    rule: GainRule = field(default_factory=GainRule)
    settings: Settings = field(default_factory=dict)
    variations: Mapping[str, Variation] = field(default_factory=dict)
    label_fractions: tuple[float, ...] = ()
    label_counts: tuple[int, ...] = ()
    pretraining_seeds: int | None = None
    paper_table: str = "1"  # of the paper, that its results are printed beside
    in_all: bool = True  # whether `all` runs it; False for one that is much larger than the others

    def runs(
        self,
        config: Config,
        stores: Sequence[Store],
        *,
        seeds: Sequence[int],
        methods: Sequence[str] = (),
        fractions: Sequence[float] = (),
        pool: Sequence[Store] = (),
        test_stores: Sequence[Store] = (),
    ) -> list[StudyRun]:
        """One run for each cohort, method, share of labelled patients and seed.

        pool: what all cohorts are pre-trained on; none, or `pretrain.cases=train`: each on its own scans. test_stores:
        external cohorts, each tested with the models of every store that has its structures.
        methods, fractions: the study's own, if empty. Raises ValueError for an unknown method and for a fraction that
        is not in (0, 1], and for structures without a tolerance of their surface Dice.
        """
        config = with_settings(config, **self.settings)
        shared = tuple(pool) if config.pretrain.cases == "pretrain" else ()
        runs = []
        for store, cohort, test_store in tested_cohorts(stores, test_stores):
            shares = labelled_patients(store, fractions or self.label_fractions)
            counts: list[int | None] = [*(shares or self.label_counts)] or [None]
            tolerances_mm(config.evaluate.surface_tolerance_mm, store.structures)  # before anything is trained
            for method in methods or self.methods:
                chosen = self.config_of(config, method)
                for seed in seeds:
                    seeded = self._seeded(chosen, seed)
                    for count in counts:
                        few = seeded if count is None else with_settings(seeded, finetune={"patients": count})
                        part = "" if count is None else f"{count}patients"
                        run = StudyRun(self.name, method, few, self.is_pretrained(method), store, cohort, part)
                        runs.append(replace(run, pool=shared, test_store=test_store))
        return runs

    def is_pretrained(self, method: str) -> bool:
        """Whether a method of this study begins with a pre-training."""
        return (self.variations[method].base if method in self.variations else method) not in WITHOUT_PRETRAINING

    def _seeded(self, config: Config, seed: int) -> Config:
        """The config of a run with this seed, and of its pre-training, which may be that of other runs, too."""
        seeded = from_dict({**config.model_dump(mode="json"), "seed": seed})
        if self.pretraining_seeds is None:
            return seeded
        return with_settings(seeded, pretrain={"seed": seed % self.pretraining_seeds})

    def config_of(self, config: Config, method: str) -> Config:
        """The config of a method of this study. Raises ValueError for an unknown name."""
        if method not in self.variations:
            return method_config(config, method)
        variation = self.variations[method]
        return with_settings(method_config(config, variation.base), **variation.settings)

    def contrasts_among(self, methods: Sequence[str]) -> tuple[Contrast, ...]:
        """What is tested where these methods were run: the primary contrasts, the others that are possible, and the
        reference against each method that no contrast of the study names."""
        named = {name for contrast in self.contrasts for name in (contrast.method, contrast.baseline)}
        possible = [c for c in self.contrasts if c.primary or {c.method, c.baseline} <= set(methods)]
        added = [Contrast(self.reference, m, primary=False) for m in methods if m not in named | {self.reference}]
        return (*possible, *(added if self.reference in methods else ()))

    def verdict(self, rows: pd.DataFrame) -> Verdict:
        """What the rows of one cohort say about the study's claim."""
        return self.rule(rows, self.contrasts_among(list(dict.fromkeys(rows["method"]))))

    @property
    def criterion(self) -> str:
        """The rule of the verdict in words."""
        at = self.rule.labelled_patients
        where = f" Read at {at} labelled patients." if at else " Read at the smallest number of labelled patients."
        where = where if self.label_fractions or self.label_counts else ""
        return self.rule.criterion(self.contrasts) + where
