"""One score for each method, training run and patient: the complete table and its analysis of variance.

Shapes of arrays are in words: a table has the axes methods, runs and patients, and before them those of the rounds of a
simulation, if there are any.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike

Scores = ArrayLike | Sequence[float]
Names = Sequence[Hashable] | Shaped[np.ndarray, " rows"]
PerRound = Float[np.ndarray | np.float64, "*#rounds"]  # one number where there are no rounds
SHOWN = 5  # offending combinations that an error names


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of the three-way table without replication, in squared units of the score.

    Where runs are not shared, a run belongs to one method: `method_run` is then the mean square of runs within methods,
    `rest` that of runs x patients within methods, and `run` and `run_patient` do not exist (NaN).
    """

    method: PerRound
    run: PerRound
    patient: PerRound
    method_run: PerRound
    method_patient: PerRound
    run_patient: PerRound
    rest: PerRound
    n_methods: int
    n_runs: int
    n_patients: int
    shared_runs: bool

    @property
    def df_method_run(self) -> int:
        """Degrees of freedom of `method_run`."""
        return (self.n_methods - self.shared_runs) * (self.n_runs - 1)

    @property
    def df_method_patient(self) -> int:
        """Degrees of freedom of `method_patient`."""
        return (self.n_methods - 1) * (self.n_patients - 1)


@dataclass(frozen=True)
class VarianceComponents:
    """Variances (not standard deviations) of the parts of one score; estimates below 0 are set to 0.

    run: the level of a training run (its seed and the patients it was trained on), common to all methods.
    patient: how easy a test patient is. method_run: what a run does to one method alone. method_patient: what a method
    does on a patient in every run. run_patient: what a run does on a patient with every method. rest: what remains.
    With runs that are not shared, run is in method_run and run_patient in rest; both are None.
    """

    run: float | None
    patient: float
    method_run: float
    method_patient: float
    run_patient: float | None
    rest: float


def score_table(
    scores: Scores,
    methods: Names,
    runs: Names,
    patients: Names,
    *,
    shared_runs: bool = True,
) -> tuple[Float[np.ndarray, "methods runs patients"], list[Hashable], list[Hashable]]:
    """Flat rows to the table, with the names of methods and of patients in the order of their first row.

    With shared_runs=False a run is known by its method and its name, and only the number of runs must agree.
    Raises ValueError for unequal lengths, rows without a name, scores that are not finite, rows that stand twice and
    combinations that are absent; the first of them are named.

    >>> table, methods, patients = score_table([1, 2, 3, 4], ["a", "a", "b", "b"], [0, 0, 0, 0], ["p", "q", "p", "q"])
    >>> table.tolist(), methods
    ([[[1.0, 2.0]], [[3.0, 4.0]]], ['a', 'b'])
    """
    values = np.asarray(scores, float)
    columns = [np.asarray(c, object).tolist() for c in (methods, runs, patients)]
    if values.ndim != 1 or {len(c) for c in columns} != {len(values)}:
        lengths = ", ".join(str(len(c)) for c in columns)
        raise ValueError(
            f"scores of shape {values.shape}; methods, runs and patients of lengths {lengths}: expected one each a row"
        )
    rows = list(zip(*columns, strict=True))
    _refuse("have no name of method, run or patient", [row for row in rows if any(n is None or n != n for n in row)])
    _refuse("have a score that is not finite", [row for row, x in zip(rows, values, strict=True) if not np.isfinite(x)])
    table_of = dict(zip(rows, values.tolist(), strict=True))
    if len(table_of) < len(rows):
        seen: set[tuple[Hashable, ...]] = set()
        _refuse("stand twice", [row for row in rows if row in seen or seen.add(row)])  # type: ignore[func-returns-value]
    names = [list(dict.fromkeys(column)) for column in columns]
    runs_of = {m: list(dict.fromkeys(run for method, run, _ in rows if method == m)) for m in names[0]}
    if shared_runs:
        runs_of = dict.fromkeys(names[0], names[1])
    elif len({len(own) for own in runs_of.values()}) > 1:
        counts = ", ".join(f"{m}: {len(own)}" for m, own in runs_of.items())
        raise ValueError(f"unequal numbers of runs ({counts}): the analysis needs the same number of each method")
    wanted = [(m, run, p) for m in names[0] for run, p in product(runs_of[m], names[2])]
    _refuse("are missing", [row for row in wanted if row not in table_of], _advice(rows))
    shape = (len(names[0]), len(runs_of[names[0][0]]) if rows else 0, len(names[2]))
    return np.array([table_of[row] for row in wanted]).reshape(shape), names[0], names[2]


def _refuse(what: str, rows: list[tuple[Hashable, ...]], advice: str = "") -> None:
    """ValueError that names the first rows, if there are any."""
    if rows:
        named = "; ".join(f"method {m}, run {r}, patient {p}" for m, r, p in rows[:SHOWN])
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        raise ValueError(f"{len(rows)} combinations {what}: {named}{more}{advice}")


def _advice(rows: list[tuple[Hashable, ...]]) -> str:
    """What may be behind missing combinations."""
    if len({(method, patient) for method, _, patient in rows}) == len(rows):
        return "; every patient has one run only: if runs are folds of a cross-validation, name them as folds="
    return (
        "; every method needs every run and patient: leave out runs that not all methods have, or, if methods share "
        "no runs, say shared_runs=False"
    )


def mean_squares(table: Float[np.ndarray, "*rounds methods runs patients"], *, shared_runs: bool = True) -> MeanSquares:
    """Mean squares of tables with at least 2 methods, runs and patients.

    By hand, methods a and b, 2 runs, 3 patients: the methods' means are 7 and 4, so MS(method) = 6 (1.5^2 + 1.5^2) / 1;
    a's runs have means 6 and 8, b's 4 and 4, each 0.5 off what method and run predict: MS(method x run) = 3 (4 x 0.25).

    >>> ms = mean_squares(np.array([[[4.0, 6, 8], [6, 8, 10]], [[2, 6, 4], [4, 4, 4]]]))
    >>> [float(x) for x in (ms.method, ms.run, ms.patient, ms.method_run, ms.method_patient, ms.run_patient, ms.rest)]
    [27.0, 3.0, 7.0, 3.0, 3.0, 1.0, 1.0]
    """
    m, r, p = table.shape[-3:]
    if min(m, r, p) < 2:
        raise ValueError(f"{m} methods, {r} runs, {p} patients: at least 2 of each are needed")
    total = table - table.mean((-3, -2, -1), keepdims=True)
    method, run, patient = (total.mean(axes, keepdims=True) for axes in ((-2, -1), (-3, -1), (-3, -2)))
    method_run = total.mean(-1, keepdims=True) - method - run
    method_patient = total.mean(-2, keepdims=True) - method - patient
    run_patient = total.mean(-3, keepdims=True) - run - patient
    rest = total - method - run - patient - method_run - method_patient - run_patient

    def squares(effect: Float[np.ndarray, "*rounds _ _ _"], repeats: int) -> Float[np.ndarray, "*rounds"]:
        return np.asarray(repeats * (effect**2).sum((-3, -2, -1)))

    ss_run, ss_run_patient = squares(run, m * p), squares(run_patient, m)
    ss_method_run, ss_rest = squares(method_run, p), squares(rest, 1)
    nothing = np.full_like(ss_run, np.nan)
    if not shared_runs:
        ss_method_run, ss_rest = ss_method_run + ss_run, ss_rest + ss_run_patient
    free = m - shared_runs
    return MeanSquares(
        method=squares(method, r * p) / (m - 1),
        run=ss_run / (r - 1) if shared_runs else nothing,
        patient=squares(patient, m * r) / (p - 1),
        method_run=ss_method_run / (free * (r - 1)),
        method_patient=squares(method_patient, r) / ((m - 1) * (p - 1)),
        run_patient=ss_run_patient / ((r - 1) * (p - 1)) if shared_runs else nothing,
        rest=ss_rest / (free * (r - 1) * (p - 1)),
        n_methods=m,
        n_runs=r,
        n_patients=p,
        shared_runs=shared_runs,
    )


def variance_components(ms: MeanSquares) -> VarianceComponents:
    """Variance components of one table, from the expected mean squares with random runs and patients.

    >>> table = np.array([[[4.0, 6, 8], [6, 8, 10]], [[2, 6, 4], [4, 4, 4]]])
    >>> variance_components(mean_squares(table)).method_patient  # (3 - 1) / 2 runs
    1.0
    """
    m, r, p = ms.n_methods, ms.n_runs, ms.n_patients
    doubled = ms.run_patient - ms.rest if ms.shared_runs else np.zeros(())
    return VarianceComponents(
        run=_positive((ms.run - ms.method_run - doubled) / (m * p)) if ms.shared_runs else None,
        patient=_positive((ms.patient - ms.method_patient - doubled) / (m * r)),
        method_run=_positive((ms.method_run - ms.rest) / p),
        method_patient=_positive((ms.method_patient - ms.rest) / r),
        run_patient=_positive((ms.run_patient - ms.rest) / m) if ms.shared_runs else None,
        rest=float(ms.rest),
    )


def _positive(variance: Float[np.ndarray | np.float64, ""]) -> float:
    """The estimate, or 0 if it is negative."""
    return float(np.maximum(variance, 0.0))
