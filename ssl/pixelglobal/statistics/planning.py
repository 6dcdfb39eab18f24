"""How many training runs, or test patients, a claim about methods needs, and how sure a pilot can be of that.

A pilot with few runs knows its own spread badly: the number that its variances ask for, taken as if they were exact,
gives less than the power promised. Each answer here therefore comes with its interval, and with the number that keeps
the promise on average over what the pilot leaves possible (assurance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from pixelglobal.statistics.anova import MeanSquares, Names, PerRound, Scores, mean_squares, score_table
from pixelglobal.statistics.mrmc import FEWEST_RUNS

Numbers = Int[np.ndarray | np.int64, "*#rounds"]  # of runs or patients
DRAWS = 1000  # variances that the pilot leaves possible


@dataclass(frozen=True)
class Plan:
    """How many runs (or patients) each method needs.

    needed: if the pilot's variances were exact. low, high: 95 % interval of that number from the pilot's uncertainty;
    high is None where it lies beyond the largest number asked for. assured: so many that the power, averaged over what
    the pilot leaves possible, is the one wanted; None beyond the largest. expected_power: that average at `needed`.
    """

    needed: int
    low: int
    high: int | None
    assured: int | None
    expected_power: float


@dataclass(frozen=True)
class SpreadOfMethods:
    """What a difference of two methods varies by, as variances; arrays where there are several guesses.

    method_run, method_patient, rest: as in `anova.VarianceComponents`.
    """

    method_run: PerRound
    method_patient: PerRound
    rest: PerRound


def contrast_power(
    spread: SpreadOfMethods,
    *,
    gain: float,
    n_runs: int | Numbers,
    n_patients: int | Numbers,
    n_methods: int = 2,
    n_contrasts: int = 1,
    shared_runs: bool = True,
    alpha: float = 0.05,
) -> Float[np.ndarray, "*rounds"]:
    """Probability that `mrmc.compare_methods` shows a true gain with p < alpha, two-sided and in the right direction.

    n_methods: 2 for the pair's own error, more for an error pooled over so many. n_contrasts: tests of one family, by
    Bonferroni, which asks for slightly more than Dunnett or Holm. The noncentral t with the expected error.

    >>> rows = SpreadOfMethods(np.array(0.9**2), np.array(0.5**2), np.array(2.3**2))
    >>> round(float(contrast_power(rows, gain=2.0, n_runs=5, n_patients=24)), 2)
    0.65
    """
    runs, patients = np.asarray(n_runs, float), np.asarray(n_patients, float)
    of_runs = spread.rest + patients * spread.method_run
    of_patients = runs * spread.method_patient
    df_runs = (n_methods - shared_runs) * (runs - 1)
    df_patients = (n_methods - 1) * (patients - 1)
    spent = of_runs**2 / df_runs + of_patients**2 / df_patients
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(spent > 0, (of_runs + of_patients) ** 2 / spent, df_runs)
        distance = abs(gain) / np.sqrt(2 * (of_runs + of_patients) / (runs * patients))
    critical = stats.t.isf(alpha / (2 * n_contrasts), df)
    return np.asarray(np.where(distance < 37, stats.nct.sf(critical, df, np.minimum(distance, 37)), 1.0))


def runs_for_power(
    spread: SpreadOfMethods,
    *,
    gain: float,
    n_patients: int,
    power: float = 0.8,
    n_contrasts: int = 1,
    largest: int = 500,
) -> int | None:
    """How many shared runs of two methods show a true gain with this power at a known spread; None beyond `largest`.

    `required_runs` asks the same of a pilot, and says how sure its spread is.

    >>> rows = SpreadOfMethods(np.array(0.9**2), np.array(0.5**2), np.array(2.3**2))
    >>> runs_for_power(rows, gain=2.0, n_patients=24), runs_for_power(rows, gain=0.1, n_patients=24)
    (7, None)
    """
    needed = _smallest(
        lambda n: contrast_power(spread, gain=gain, n_runs=n, n_patients=n_patients, n_contrasts=n_contrasts),
        np.full((), FEWEST_RUNS),
        largest,
        power,
    )
    return int(needed) if needed <= largest else None


def required_runs(
    scores: Scores,
    *,
    methods: Names,
    runs: Names,
    patients: Names,
    gain: float,
    n_patients: int | None = None,
    power: float = 0.8,
    n_methods: int = 2,
    n_contrasts: int = 1,
    shared_runs: bool = True,
    alpha: float = 0.05,
    largest: int = 500,
    seed: int = 0,
) -> Plan:
    """How many runs of each method would show a true gain with this power, from the rows of a pilot.

    scores, methods, runs, patients: as for `mrmc.compare_methods`, at least 2 of each; all methods of the pilot tell
    how methods spread. gain: in the unit of the scores. n_patients: tested in the study; as in the pilot if not given.
    The rest as for `contrast_power`. At least 3 runs, which a claim about methods needs.
    Raises ValueError for rows that make no complete table, gain 0, and where `largest` runs are not enough.

    Two methods with 3 runs know little; with the true variances of this example the answer is 6:

    >>> rng = np.random.default_rng(4)
    >>> m, r, p = (axis.ravel() for axis in np.indices((2, 3, 24)))
    >>> scores = rng.normal(0, 0.9, (2, 3))[m, r] + rng.normal(0, 2.3, m.size)
    >>> plan = required_runs(scores, methods=m, runs=r, patients=p, gain=2.0)
    >>> plan.needed, (plan.low, plan.high), plan.assured
    (6, (3, 218), 12)
    """
    pilot, draws = _pilot(scores, methods, runs, patients, shared_runs, gain, seed)
    tested = pilot.n_patients if n_patients is None else n_patients

    def power_of(spread: SpreadOfMethods, n: Numbers) -> Float[np.ndarray, "*rounds"]:
        return contrast_power(spread, gain=gain, n_runs=n, n_patients=tested, n_methods=n_methods,
                              n_contrasts=n_contrasts, shared_runs=shared_runs, alpha=alpha)  # fmt: skip

    return _plan(
        power_of, pilot, draws, FEWEST_RUNS, largest, power, f"runs on {tested} patients", "test more patients"
    )


def required_patients(
    scores: Scores,
    *,
    methods: Names,
    runs: Names,
    patients: Names,
    gain: float,
    n_runs: int | None = None,
    power: float = 0.8,
    n_methods: int = 2,
    n_contrasts: int = 1,
    shared_runs: bool = True,
    alpha: float = 0.05,
    largest: int = 5000,
    seed: int = 0,
) -> Plan:
    """How many test patients would show a true gain of methods with this power; `n_runs` as in the pilot if not given.

    More patients cannot make up for few runs: where even `largest` are not enough, ValueError says so, with the power
    that they give. All else as in `required_runs`.

    >>> rng = np.random.default_rng(0)
    >>> m, r, p = (axis.ravel() for axis in np.indices((4, 5, 24)))
    >>> scores = rng.normal(0, 0.9, (4, 5))[m, r] + rng.normal(0, 2.3, m.size)
    >>> required_patients(scores, methods=m, runs=r, patients=p, gain=2.0, n_runs=8).needed
    8
    """
    pilot, draws = _pilot(scores, methods, runs, patients, shared_runs, gain, seed)
    trained = pilot.n_runs if n_runs is None else n_runs

    def power_of(spread: SpreadOfMethods, n: Numbers) -> Float[np.ndarray, "*rounds"]:
        return contrast_power(spread, gain=gain, n_runs=trained, n_patients=n, n_methods=n_methods,
                              n_contrasts=n_contrasts, shared_runs=shared_runs, alpha=alpha)  # fmt: skip

    return _plan(power_of, pilot, draws, 2, largest, power, f"patients with {trained} runs", "add runs (required_runs)")


def _pilot(
    scores: Scores, methods: Names, runs: Names, patients: Names, shared_runs: bool, gain: float, seed: int
) -> tuple[MeanSquares, SpreadOfMethods]:
    """The pilot's mean squares, and variances that it leaves possible.

    A mean square of d degrees of freedom is its expectation times chi^2 / d; turned round, each draw of chi^2 gives an
    expectation that fits the pilot. Negative variances are set to 0.
    """
    if gain == 0 or not np.isfinite(gain):
        raise ValueError(f"gain={gain:g}: expected the smallest gain worth showing, in the unit of the scores, not 0")
    table, _, _ = score_table(scores, methods, runs, patients, shared_runs=shared_runs)
    ms = mean_squares(table, shared_runs=shared_runs)
    rng = np.random.default_rng(seed)
    df_rest = ms.df_method_run * (ms.n_patients - 1)
    squares = [
        value * df / rng.chisquare(df, DRAWS)
        for value, df in (
            (ms.method_run, ms.df_method_run),
            (ms.method_patient, ms.df_method_patient),
            (ms.rest, df_rest),
        )
    ]
    return ms, _spread(squares[0], squares[1], squares[2], ms)


def _spread(method_run: PerRound, method_patient: PerRound, rest: PerRound, ms: MeanSquares) -> SpreadOfMethods:
    """Variances from (expected) mean squares of a table of this size."""
    return SpreadOfMethods(
        np.maximum(method_run - rest, 0.0) / ms.n_patients, np.maximum(method_patient - rest, 0.0) / ms.n_runs, rest
    )


def _plan(
    power_of: Callable[[SpreadOfMethods, Numbers], PerRound],
    pilot: MeanSquares,
    draws: SpreadOfMethods,
    fewest: int,
    largest: int,
    power: float,
    what: str,
    remedy: str,
) -> Plan:
    """Search the smallest numbers; ValueError with the power of `largest` where it is not enough."""
    guess = _spread(pilot.method_run, pilot.method_patient, pilot.rest, pilot)
    needed = int(_smallest(lambda n: power_of(guess, n), np.full((), fewest), largest, power))
    if needed > largest:
        reached = float(power_of(guess, np.array(largest)))
        raise ValueError(f"even {largest} {what} give a power of {reached:.0%} instead of {power:.0%}; {remedy}")
    assured = int(_smallest(lambda n: power_of(draws, n).mean(), np.full((), fewest), largest, power))
    each = _smallest(lambda n: power_of(draws, n), np.full(DRAWS, fewest), largest, power)
    low, high = np.quantile(each, [0.025, 0.975], method="nearest").astype(int)
    expected = float(power_of(draws, np.array(needed)).mean())
    return Plan(
        needed, int(low), int(high) if high <= largest else None, assured if assured <= largest else None, expected
    )


def _smallest(power_at: Callable[[Numbers], PerRound], fewest: Numbers, largest: int, power: float) -> Numbers:
    """Smallest numbers from `fewest` to `largest` with this power, `largest` + 1 if there is none, by bisection."""
    low, high = np.asarray(fewest) - 1, np.full_like(fewest, largest + 1)  # low is too few, high enough or none
    while (high - low > 1).any():
        middle = np.clip((low + high) // 2, fewest, largest)
        enough = power_at(middle) >= power
        low, high = np.where(enough | (high - low <= 1), low, middle), np.where(enough & (high - low > 1), middle, high)
    return high
