"""Means of owed scores: over runs, over patients (or slices), then over structures.

There is one average in all tables: the mean over structures of the means over patients. Where patients lack structures
it is not the mean over patients of their own means. So that a test is about the number that is printed, each patient
contributes to it with the weight that makes the mean of the contributions the average.

A run is scored on the structures that its labelled patients showed it: no method can find what nobody contoured, and a
fixed 0 for it would only shrink every difference. Where the rows say which structures these are (`labelled`), a run
whose labelled patients lack a structure is left out of its mean, and the structure out of the average of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelglobal.tables.metric import Metric

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one metric in printed units, of all methods on the same units of analysis.

    values: for each method an array [runs, units, structures]. A patient with several scans has the mean over them.
    owed: [units, structures], whether the structure counts in this unit; values elsewhere mean nothing. Where owed
    values are NaN, the metric is unknown. runs: seeds of each method. labelled: for each method [runs, structures],
    whether the run's labelled patients had the structure. pretraining: the seed of a run's pre-training by the run's
    seed, which several runs may share. patients: of each unit. folds: of each unit, or None without cross-validation or
    where a patient's fold changes from run to run.
    """

    metric: Metric
    values: dict[str, FloatArray]
    owed: NDArray[np.bool_]
    runs: dict[str, list[int]]
    labelled: dict[str, NDArray[np.bool_]]
    pretraining: dict[int, int]
    patients: NDArray[np.str_]
    folds: NDArray[np.str_] | None
    structures: list[str]

    def units_with(self, structure: str | None) -> NDArray[np.bool_]:
        """Which units have the structure; with None, which have any."""
        if structure is None:
            return np.asarray(self.owed.any(1))
        return np.asarray(self.owed[:, self.structures.index(structure)])

    def contributions(self, method: str, structure: str | None) -> FloatArray:
        """One number for each run and unit [runs, units with the structure], whose mean is what the table prints.

        structure: None is the average. Its contribution of unit p is the sum over p's structures of
        (units / (structures x units with this structure)) x score, the mean over structures for complete units. Only
        structures that were labelled for the run count. For a structure, only runs for which it was labelled are there.
        """
        labelled = self.labelled[method]
        if structure is not None:
            column = self.structures.index(structure)
            return self.values[method][labelled[:, column]][:, self.units_with(structure), column]
        present = self.owed.sum(0)
        counted = (present > 0) & labelled
        weights = counted * self.units_with(None).sum() / np.maximum(counted.sum(1, keepdims=True) * present, 1)
        weighted = np.where(self.owed, self.values[method], 0.0) * weights[:, None]
        return np.asarray(weighted.sum(2)[:, self.units_with(None)])

    def independent_runs(self, method: str, structure: str | None) -> tuple[list[int], FloatArray]:
        """The contributions of runs that share nothing but the patients tested, and the names of these runs.

        Runs from one pre-training, with other labelled patients, are averaged: they are no independent evidence about
        the method, and the name of their mean is the seed of the pre-training.
        """
        contributions, seeds = self.contributions(method, structure), np.array(self.runs[method])
        if structure is not None:
            seeds = seeds[self.labelled[method][:, self.structures.index(structure)]]
        shared = np.array([self.pretraining.get(seed, seed) for seed in seeds.tolist()])
        names = np.unique(shared).tolist()
        return names, np.array([contributions[shared == name].mean(0) for name in names]).reshape(
            len(names), contributions.shape[1]
        )

    def unit_means(self, method: str, structure: str | None) -> FloatArray:
        """The contributions of the units, over independent runs; NaN without a run. Their mean is what is printed."""
        names, contributions = self.independent_runs(method, structure)
        return np.asarray(contributions.mean(0) if names else np.full(contributions.shape[1], np.nan))

    def mean(self, method: str, structure: str | None) -> float:
        """The printed number: over independent runs and units, for None over structures; NaN if a score is unknown.

        Each pre-training counts once, however many of its runs have the structure, as in the tests: the difference of
        two printed numbers is the gain that is tested.
        """
        means = self.unit_means(method, structure)
        return float(means.mean()) if means.size else float("nan")

    def run_means(self, method: str, structure: str | None = None) -> FloatArray:
        """The printed number of each run."""
        return np.asarray(self.contributions(method, structure).mean(1))

    def with_runs(self, runs: dict[str, list[int]]) -> ScoreTable:
        """The same table of some of the methods and runs."""
        places = {method: [self.runs[method].index(run) for run in kept] for method, kept in runs.items()}
        values = {method: self.values[method][place] for method, place in places.items()}
        labelled = {method: self.labelled[method][place] for method, place in places.items()}
        return replace(self, values=values, labelled=labelled, runs=runs)


def score_table(
    scores: pd.DataFrame, metric: Metric, methods: Sequence[str], structures: Sequence[str], *, by_slice: bool = False
) -> ScoreTable:
    """The table of owed scores (`owed_scores`), of patients or, by_slice, of slices.

    An infinite distance counts as the diagonal of the image, `diagonal_mm`; without one it is unknown.
    """
    unit = ["patient", "case", "slice_index"] if by_slice else ["patient"]
    number = scores.groupby(unit, sort=False).ngroup().to_numpy()
    first = np.unique(number, return_index=True)[1]
    column = pd.Categorical(scores["structure"], list(structures)).codes
    printed = _printed(scores, metric)
    shape = (len(first), len(structures))
    values, runs, labelled = {}, {}, {}
    owed = np.zeros(shape, bool)
    owed[number, column] = True
    for method in methods:
        of_method = (scores["method"] == method).to_numpy()
        runs[method] = sorted(scores.loc[of_method, "seed"].unique().tolist())
        run = np.searchsorted(runs[method], scores.loc[of_method, "seed"])
        place = np.ravel_multi_index((run, number[of_method], column[of_method]), (len(runs[method]), *shape))
        size = len(runs[method]) * len(first) * len(structures)
        totals, counts = np.bincount(place, printed[of_method], size), np.bincount(place, minlength=size)
        means = np.divide(totals, counts, where=counts > 0, out=np.full(size, np.nan))
        values[method] = means.reshape(len(runs[method]), *shape)
        labelled[method] = _labelled(scores[of_method], runs[method], structures)
    patients = scores["patient"].to_numpy()[first].astype(str)
    return ScoreTable(
        metric, values, owed, runs, labelled, _pretraining(scores), patients, _folds(scores, patients), list(structures)
    )


def _printed(scores: pd.DataFrame, metric: Metric) -> FloatArray:
    """The metric in printed units, NaN where it is unknown."""
    if metric.column not in scores.columns:
        return np.full(len(scores), np.nan)
    values = scores[metric.column].to_numpy(float)
    if np.isinf(values).any():
        diagonal = scores["diagonal_mm"].to_numpy(float) if "diagonal_mm" in scores.columns else np.nan
        values = np.where(np.isinf(values), diagonal, values)
    printed: FloatArray = values * metric.factor
    return printed


def _labelled(scores: pd.DataFrame, runs: Sequence[int], structures: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each structure was labelled for each run of a method; so it was where the rows do not say."""
    said = pd.DataFrame(True, index=list(runs), columns=list(structures))
    if "labelled" in scores.columns:
        facts = scores.loc[scores["labelled"].notna(), ["seed", "structure", "labelled"]].drop_duplicates()
        for seed, structure, value in facts.itertuples(index=False):
            said.loc[seed, structure] = bool(value)
    return np.asarray(said, bool)


def _pretraining(scores: pd.DataFrame) -> dict[int, int]:
    """The pre-training of each run, where the rows say it."""
    if "pretraining_seed" not in scores.columns:
        return {}
    facts = scores[["seed", "pretraining_seed"]].dropna().drop_duplicates().astype(int)
    if (twice := facts["seed"].duplicated()).any():
        raise ValueError(
            f"seed {facts.loc[twice, 'seed'].iloc[0]} has several values of pretraining_seed; expected the same "
            "pre-training seed for all methods of a run"
        )
    return dict(facts.itertuples(index=False, name=None))


def _folds(scores: pd.DataFrame, patients: NDArray[np.str_]) -> NDArray[np.str_] | None:
    if "fold" not in scores.columns:
        return None
    facts = scores[["patient", "fold"]].dropna().drop_duplicates()
    fold_of = dict(zip(facts["patient"], facts["fold"], strict=True))
    if facts["patient"].duplicated().any() or not set(patients.tolist()) <= set(fold_of):
        return None
    return np.array([fold_of[patient] for patient in patients.tolist()])


@dataclass(frozen=True)
class Failures:
    """Infinite distances (Dice 0 with one side empty) of one method: what they are, and how many have no penalty."""

    missed: int
    false_alarms: int
    unknown: int  # the rows do not say whether the reference has the structure

    def __str__(self) -> str:
        """In the words of a table's cell, such as `2 missed, 1 false alarm`."""
        words = [f"{self.missed} missed"] if self.missed else []
        words += [f"{self.false_alarms} false alarm{'s' * (self.false_alarms > 1)}"] if self.false_alarms else []
        words += [f"{self.unknown} infinite"] if self.unknown else []
        return ", ".join(words)


def failures(scores: pd.DataFrame, metric: Metric) -> Failures:
    """Count the infinite distances among some owed scores."""
    if metric.column not in scores.columns:
        return Failures(0, 0, 0)
    if "labelled" in scores.columns:
        scores = scores[scores["labelled"] != False]  # noqa: E712  # NaN: the rows do not say
    there = scores.loc[np.isinf(scores[metric.column].to_numpy(float)), "in_reference"]
    return Failures(int((there == 1).sum()), int((there == 0).sum()), int((there == -1).sum()))
