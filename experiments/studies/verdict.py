"""Whether a study's claim holds: which methods are tested against each other, and the rule that reads the result.

Both work on rows alone. The claim is about methods, so its units are training runs and patients together
(`pixelglobal.statistics.mrmc`); fewer than 3 runs decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from pixelglobal.statistics.mrmc import FEWEST_RUNS, MethodComparison, adjusted_p_values, compare_methods
from pixelglobal.statistics.planning import SpreadOfMethods, runs_for_power
from pixelglobal.tables.averages import ScoreTable, score_table
from pixelglobal.tables.metric import metric_of
from pixelglobal.tables.owed_scores import owed_scores
from pixelglobal.tables.rows import complete_rows

State = Literal["reproduced", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Contrast:
    """Two methods that are tested against each other: the claim is that `method` segments better than `baseline`.

    A verdict depends on the primary contrasts; the others are tested beside them, as a family of their own.
    """

    method: str
    baseline: str
    primary: bool = True

    def __str__(self) -> str:
        return f"{self.method} against {self.baseline}"


@dataclass(frozen=True)
class ContrastResult:
    """A contrast with its result in DSC points; `comparison` is None with fewer than 3 shared runs or 2 patients."""

    contrast: Contrast
    n_runs: int  # seeds that both methods have
    n_patients: int
    comparison: MethodComparison | None = None
    corrected_p: float = math.nan  # within its family, primary or other (`mrmc.adjusted_p_values`)

    @property
    def runs(self) -> str:
        """How many runs were compared, and from how many pre-trainings where they share them."""
        independent = self.n_runs if self.comparison is None else self.comparison.n_runs
        shared = f" from {independent} pre-trainings" if independent < self.n_runs else ""
        return f"{_runs(self.n_runs)}{shared}"

    def sentence(self) -> str:
        """The gain with its interval, corrected p and sample size."""
        c = self.comparison
        if c is None:
            return f"{self.contrast} is not tested"
        p = "p < 0.001" if self.corrected_p < 0.001 else f"p = {self.corrected_p:.3f}"
        return (
            f"{self.contrast.method} gains {c.difference:+.2f} DSC points over {self.contrast.baseline} "
            f"[{c.low:+.2f}, {c.high:+.2f}] (corrected {p}; {self.runs}, {c.n_patients} patients)"
        )


@dataclass(frozen=True)
class Verdict:
    """What the rows of one cohort say about a study's claim, and why."""

    state: State
    reason: str  # a sentence
    tested: tuple[ContrastResult, ...] = ()

    def __str__(self) -> str:
        return f"{self.state[0].upper()}{self.state[1:]}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"state": self.state, "reason": self.reason, "contrasts": [_flat(one) for one in self.tested]}


@dataclass(frozen=True)
class GainRule:
    """Reproduced: every primary contrast shows a gain. Not reproduced: one of them rules out a gain worth having.

    A gain is shown where the corrected p is below alpha and the difference is above 0. It is ruled out where it is
    not shown and the 95 % interval ends below `smallest_gain_points`. Everything else is undecided.
    """

    smallest_gain_points: float = 1.0  # of DSC
    alpha: float = 0.05
    labelled_patients: int | None = None  # where several numbers were run: at which it is read; None: the smallest

    def __call__(self, rows: pd.DataFrame, contrasts: Sequence[Contrast]) -> Verdict:
        """The verdict from rows of one cohort, at one number of labelled patients."""
        if "labelled_patients" in rows:
            asked = self.labelled_patients or rows["labelled_patients"].min()
            rows = rows[rows["labelled_patients"] == asked]
            if rows.empty:
                return Verdict("undecided", f"no run with {asked} labelled patients is finished")
        tested = compare_contrasts(rows, contrasts)
        primary = [one for one in tested if one.contrast.primary]
        too_few = [one for one in primary if one.comparison is None]
        ruled_out = [one for one in primary if self.rules_out(one)]
        if ruled_out:
            reason = f"{_joined(ruled_out)}; a gain of {self.smallest_gain_points:+g} or more is ruled out"
            return Verdict("not reproduced", reason, tested)
        if too_few:
            return Verdict("undecided", _what_is_missing(too_few), tested)
        if all(self.shows(one) for one in primary):
            return Verdict("reproduced", _joined(primary), tested)
        still_open = [one for one in primary if not self.shows(one)]
        reason = (
            f"{_joined(still_open)}; a gain is not shown, and one of {self.smallest_gain_points:+g} or more is not "
            f"ruled out: {self.what_it_needs(still_open)}"
        )
        return Verdict("undecided", reason, tested)

    def criterion(self, contrasts: Sequence[Contrast]) -> str:
        """The rule in words, for the primary ones of these contrasts."""
        named = " and ".join(f"of {c.method} over {c.baseline}" for c in contrasts if c.primary)
        return (
            f"Reproduced, if a gain {named} in average DSC is shown over training runs and patients (corrected p < "
            f"{self.alpha:g}). Not reproduced, if the 95 % interval of a gain that is not shown ends below "
            f"{self.smallest_gain_points:+g} DSC points. Undecided otherwise, and with fewer than {FEWEST_RUNS} runs."
        )

    def shows(self, one: ContrastResult) -> bool:
        """Whether a gain is shown."""
        return one.comparison is not None and one.corrected_p < self.alpha and one.comparison.difference > 0

    def rules_out(self, one: ContrastResult) -> bool:
        """Whether a gain worth having is ruled out."""
        return one.comparison is not None and not self.shows(one) and one.comparison.high < self.smallest_gain_points

    def what_it_needs(self, still_open: Sequence[ContrastResult]) -> str:
        """About how many more runs would decide these contrasts if their differences stayed as they are.

        Where runs share pre-trainings, more of these with as many runs each.
        """
        needed = [(self.runs_needed(c), c.n_runs) for one in still_open if (c := one.comparison)]
        more = [runs - there for runs, there in needed if runs is not None]
        if len(more) < len(needed):
            return "needs more test patients, since no number of runs would decide it on these"
        several = any(one.comparison and one.comparison.n_runs < one.n_runs for one in still_open)
        return f"needs about {_runs(max(1, *more), 'more ', 'pre-training' if several else 'run')}"

    def runs_needed(self, comparison: MethodComparison) -> int | None:
        """Runs that exclude 0, or the smallest gain, with a power of 80 % if mean and spread stay as they are.

        Whichever of the two is farther from the mean; None where no number of runs does it on these patients.
        """
        parts = comparison.components
        if parts is None:
            return None
        distance = max(comparison.difference, self.smallest_gain_points - comparison.difference)
        spread = SpreadOfMethods(*map(np.asarray, (parts.method_run, parts.method_patient, parts.rest)))
        return runs_for_power(spread, gain=distance, n_patients=comparison.n_patients)


def compare_contrasts(rows: pd.DataFrame, contrasts: Sequence[Contrast]) -> tuple[ContrastResult, ...]:
    """Every contrast tested over the runs that its two methods share; p corrected within its family."""
    table = primary_endpoint(rows)
    results = {contrast: _tested(table, contrast) for contrast in contrasts}
    for primary in (True, False):
        family = {c: r for c, r in results.items() if c.primary == primary and r.comparison is not None}
        p_values = adjusted_p_values([r.comparison for r in family.values() if r.comparison is not None])[0]
        for contrast, p in zip(family, p_values, strict=True):
            results[contrast] = replace(family[contrast], corrected_p=float(p))
    return tuple(results.values())


def primary_endpoint(rows: pd.DataFrame) -> ScoreTable:
    """DSC in % of whole volumes; its average over structures is the primary endpoint. Absent scores are refused."""
    methods, structures = (list(dict.fromkeys(rows[column])) for column in ("method", "structure"))
    owed = owed_scores(complete_rows(rows), methods, with_slices=False)
    return score_table(owed.volumes, metric_of("dice"), methods, structures)


def average_of_run(rows: pd.DataFrame) -> float:
    """The average DSC (%) of the one run that rows are of, whatever the study that made them calls its method."""
    table = primary_endpoint(rows)
    [method] = table.values
    return table.mean(method, None)


def _tested(table: ScoreTable, contrast: Contrast) -> ContrastResult:
    seeds = shared_seeds(table, contrast)
    results = compared_with_all(table, contrast.method, seeds, None)
    if results:
        comparison = results[contrast.baseline]
        return ContrastResult(contrast, len(seeds), comparison.n_patients, comparison)
    if seeds:
        table = table.with_runs({contrast.method: list(seeds), contrast.baseline: list(seeds)})
    independent = table.independent_runs(contrast.method, None)[0] if seeds else []
    return ContrastResult(contrast, len(independent), int(table.units_with(None).sum()))


def shared_seeds(table: ScoreTable, contrast: Contrast) -> tuple[int, ...]:
    """The seeds of the training runs that both methods of a contrast have."""
    return tuple(sorted(set(table.runs.get(contrast.method, ())) & set(table.runs.get(contrast.baseline, ()))))


def compared_with_all(
    table: ScoreTable, method: str, seeds: Sequence[int], structure: str | None
) -> dict[str, MethodComparison]:
    """A method against every other that has these runs, by the other's name, on a structure or (None) on average.

    Empty with fewer than 3 independent runs or 2 patients.
    """
    if not seeds:
        return {}
    beside = [m for m, runs in table.runs.items() if set(runs).issuperset(seeds)]  # their runs inform the error, too
    table = table.with_runs({m: list(seeds) for m in beside})
    patients = table.patients[table.units_with(structure)]
    independent = [table.independent_runs(m, structure) for m in beside]
    shared = independent[0][0]
    if len(shared) < FEWEST_RUNS or len(patients) < 2:
        return {}
    results = compare_methods(
        np.concatenate([scores.ravel() for _, scores in independent]),
        methods=np.repeat(beside, len(shared) * len(patients)),
        runs=np.tile(np.repeat(shared, len(patients)), len(beside)),
        patients=np.tile(patients, len(beside) * len(shared)),
        reference=method,
    )
    return {str(result.method_b): result for result in results}


def _what_is_missing(too_few: Sequence[ContrastResult]) -> str:
    fewest = min(one.n_runs for one in too_few)
    if fewest >= FEWEST_RUNS:
        return "a claim about methods takes 2 test patients: needs a cohort with more"
    named = "; ".join(f"{one.contrast} has {_runs(one.n_runs)} with the same seeds" for one in too_few)
    return (
        f"{named}. A claim about methods takes {FEWEST_RUNS}: needs {_runs(FEWEST_RUNS - fewest, 'more ')} of each. "
        "Claims about these checkpoints are in the table"
    )


def _runs(count: int, more: str = "", what: str = "run") -> str:
    return f"{count} {more}{what}" + ("" if count == 1 else "s")


def _joined(tested: Sequence[ContrastResult]) -> str:
    return "; ".join(one.sentence() for one in tested)


def _flat(one: ContrastResult) -> dict[str, Any]:
    values: dict[str, Any] = {**asdict(one.contrast), "n_runs": one.n_runs, "n_patients": one.n_patients}
    if one.comparison is not None:
        c = one.comparison
        values |= {
            "gain_points": c.difference, "low": c.low, "high": c.high, "p_value": c.p_value,
            "corrected_p": one.corrected_p, "df": c.df, "analysis": c.analysis,
            "note": c.note,
        }  # fmt: skip
    return values
