"""How many runs and how many test patients a study needs, from the runs of it that are finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.report.collect import by_cohort, finished, rows_of
from experiments.runner.pipeline import Pipeline
from experiments.studies.study import Study
from experiments.studies.verdict import primary_endpoint
from pixelglobal.statistics.mrmc import FEWEST_RUNS
from pixelglobal.statistics.planning import Plan, required_patients, required_runs

LARGEST_RUNS, LARGEST_PATIENTS = 500, 5000  # that are asked for


def sample_size_sentences(study: Study, pipelines: Sequence[Pipeline], gain_points: float) -> list[str]:
    """What a gain of so many DSC points takes on each cohort, for the primary contrasts of a study.

    The finished runs are the pilot. One sentence says what is missing where they are too few to plan from.
    """
    cohorts = by_cohort(finished(pipelines))
    if not cohorts:
        return ["How many runs the study needs cannot be said before some of its runs are finished."]
    return [f"{cohort}: {sample_size(study, rows_of(done), gain_points)}" for cohort, done in cohorts.items()]


def sample_size(study: Study, rows: pd.DataFrame, gain_points: float) -> str:
    """The sentence for the rows of one cohort; with several numbers of labelled patients, at the smallest of them."""
    if "labelled_patients" in rows:
        rows = rows[rows["labelled_patients"] == rows["labelled_patients"].min()]
    table = primary_endpoint(rows)
    primary = [c for c in study.contrasts if c.primary]
    methods = [m for m in dict.fromkeys(n for c in primary for n in (c.method, c.baseline)) if m in table.runs]
    runs = {m: table.independent_runs(m, None) for m in methods}
    shared = sorted(set.intersection(*(set(names) for names, _ in runs.values()))) if methods else []
    patients = table.patients[table.units_with(None)]
    if len(methods) < 2 or len(shared) < FEWEST_RUNS or len(patients) < 2:
        return (
            f"how many runs the study needs cannot be said from {len(shared)} finished runs of {len(methods)} methods; "
            f"a pilot has {FEWEST_RUNS} runs of two methods"
        )
    scores = [scores[[names.index(run) for run in shared]].ravel() for names, scores in runs.values()]
    methods_of, runs_of, patients_of = (
        np.repeat(methods, len(shared) * len(patients)),
        np.tile(np.repeat(shared, len(patients)), len(methods)),
        np.tile(patients, len(methods) * len(shared)),
    )
    pilot = {"methods": methods_of, "runs": runs_of, "patients": patients_of}
    of_runs, of_patients = (
        _needed(required, largest, np.concatenate(scores), pilot, gain_points, len(primary))
        for required, largest in ((required_runs, LARGEST_RUNS), (required_patients, LARGEST_PATIENTS))
    )
    return (
        f"a gain of {gain_points:g} DSC points takes {of_runs} runs of each method on these {len(patients)} test "
        f"patients, or {of_patients} test patients with {len(shared)} runs, for a power of 80 % over {len(primary)} "
        f"primary {'contrast' if len(primary) == 1 else 'contrasts'}, if runs and patients spread as in the "
        f"{len(shared)} finished runs"
    )


def _needed(
    required: Callable[..., Plan],
    largest: int,
    scores: np.ndarray,
    pilot: Mapping[str, Any],
    gain: float,
    contrasts: int,
) -> str:
    """The number that keeps its promise although a pilot knows little, with its 95 % interval."""
    try:
        plan = required(scores, **pilot, gain=gain, n_contrasts=contrasts, largest=largest)
    except ValueError:  # not even the largest number is enough
        return f"more than {largest}"
    most = f"more than {largest}" if plan.high is None else str(plan.high)
    return f"{f'more than {largest}' if plan.assured is None else plan.assured} ({plan.low} to {most})"
