"""How often claims about methods are wrong, and how often they find a gain, by simulation.

The multi-reader multi-case analysis of `pixelglobal.statistics.mrmc` beside what is usual: Welch's t over run means,
the paired t by seed, a bootstrap of runs and patients (as rliable does), P(A > B) over seeds (Bouthillier et al. 2021),
and the paired t over patients with seeds averaged, which is a claim about checkpoints.
Letters of the axes: N rounds, M methods, R runs, P patients. Scores are in points of Dice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pixelglobal.statistics.anova import PerRound
from pixelglobal.statistics.contrast import contrast_of, fold_contrast
from pixelglobal.statistics.dunnett import dunnett_critical_value

FloatArray = NDArray[np.float64]
Interval = tuple[PerRound, PerRound]

GAINS = (1.0, 2.0)
CHUNK = 250  # rounds held in memory together
RESAMPLES = 1000
ENOUGH_WINS = 0.75  # P(A > B) that Bouthillier et al. call meaningful


@dataclass(frozen=True)
class Layout:
    """A world to draw studies from; the numbers are standard deviations, by default those of the committed rows.

    skewed: runs follow an exponential distribution with a long tail of bad luck. lost: chance that a run of a method
    loses an organ, which costs 5 points. wide: factor on what the runs of the first method do to it alone.
    """

    name: str
    run: float = 1.5
    patient: float = 4.2
    method_run: float = 0.9
    method_patient: float = 0.5
    rest: float = 2.3
    skewed: bool = False
    lost: float = 0.0
    wide: float = 1.0
    shared_runs: bool = True

    def draw(self, rng: np.random.Generator, n_rounds: int, n_methods: int, n_runs: int, n_patients: int) -> FloatArray:
        """Scores [N, M, R, P] of methods that are equally good."""
        n, m, r, p = n_rounds, n_methods, n_runs, n_patients

        def luck(*shape: int) -> FloatArray:
            return 1 - rng.exponential(size=shape) if self.skewed else rng.normal(size=shape)

        own = self.method_run * luck(n, m, r, 1) - 5.0 * (rng.random((n, m, r, 1)) < self.lost)
        own[:, 0] *= self.wide
        level = self.run * luck(n, 1 if self.shared_runs else m, r, 1) + self.patient * rng.normal(size=(n, 1, 1, p))
        interaction = self.method_patient * rng.normal(size=(n, m, 1, p))
        return level + own + interaction + self.rest * rng.normal(size=(n, m, r, p))


LAYOUTS = (
    Layout("as the committed rows"),
    Layout("methods differ on patients", method_patient=3.0),
    Layout("organ lottery", lost=0.15),
    Layout("skewed runs", skewed=True),
    Layout("one method's runs spread 2.5 x", wide=2.5),
)
UNSHARED = Layout("seeds not shared", shared_runs=False)


def welch(a: FloatArray, b: FloatArray) -> Interval:
    """Welch's t over run means; a and b are scores [N, R, P] of two methods."""
    means = np.stack([a.mean(-1), b.mean(-1)])
    variances = means.var(-1, ddof=1) / a.shape[1]
    variance = variances.sum(0)
    df = variance**2 / (variances**2).sum(0) * (a.shape[1] - 1)
    return _around(means[0].mean(-1) - means[1].mean(-1), np.sqrt(variance), df)


def paired_t(a: FloatArray, b: FloatArray) -> Interval:
    """Paired t over run means, by seed."""
    d = (a - b).mean(-1)
    return _around(d.mean(-1), d.std(-1, ddof=1) / np.sqrt(d.shape[-1]), np.asarray(d.shape[-1] - 1.0))


def over_patients(a: FloatArray, b: FloatArray) -> Interval:
    """Paired t over patients, runs averaged: right about these checkpoints, wrong about methods."""
    return paired_t(a.swapaxes(-1, -2), b.swapaxes(-1, -2))


def bootstrap(a: FloatArray, b: FloatArray, *, seed: int = 0) -> Interval:
    """Percentile interval of the mean difference, runs and patients drawn anew, both methods alike."""
    rng = np.random.default_rng(seed)
    d = a - b
    runs, patients = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in d.shape[1:])
    means = np.einsum("nrb,br->nb", d @ patients.T, runs, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975], axis=-1)
    return low, high


def wins(a: FloatArray, b: FloatArray) -> NDArray[np.bool_]:
    """Whether P(A > B) over seeds is claimed, for either method: its bootstrap interval leaves 1/2, and it is >= 0.75.

    The bootstrap of k wins in R seeds is the binomial distribution, so its quantiles need no resampling.
    """
    n_runs = a.shape[1]
    won = np.arange(n_runs + 1)
    low, high = (stats.binom.ppf(q, n_runs, won / n_runs) / n_runs for q in (0.025, 0.975))
    share = won / n_runs
    claimed = ((low > 0.5) & (share >= ENOUGH_WINS)) | ((high < 0.5) & (share <= 1 - ENOUGH_WINS))
    return np.asarray(claimed[(a.mean(-1) > b.mean(-1)).sum(-1)])


def _around(mean: FloatArray, error: FloatArray, df: FloatArray) -> Interval:
    """95 % interval of a t distribution."""
    half = stats.t.ppf(0.975, df) * error
    return mean - half, mean + half


RIVALS: dict[str, Callable[[FloatArray, FloatArray], Interval]] = {
    "Welch over run means": welch,
    "paired t by seed": paired_t,
    "bootstrap of runs and patients": bootstrap,
    "patients, seeds averaged": over_patients,
}


def simulate(
    layouts: Sequence[Layout] = (*LAYOUTS, UNSHARED),
    n_runs: Sequence[int] = (3, 5, 10),
    n_patients: Sequence[int] = (8, 24, 50),
    *,
    rounds: int = 2000,
    pooled_over: Sequence[int] = (4,),
    rivals: bool = True,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a layout, numbers of runs and patients, and analysis; rates in %, at alpha 5 %.

    false_alarms: p < 0.05 between equal methods, the first against the second (of the wide layout, the wide one).
    coverage: 95 % intervals that hold the true difference. power_1, power_2: true gains of 1 and 2 points shown.
    refused: tables whose pooled error `mrmc` refused. family_alarms: any of the contrasts against the first method
    below 0.05 after Dunnett's adjustment, where the error was pooled. bystanders: false alarms between the last two
    methods, which are never the wide one.

    >>> rows = simulate(LAYOUTS[:1], [5], [8], rounds=200, rivals=False)
    >>> [row["analysis"] for row in rows], 0 < rows[0]["false_alarms"] < 15
    (['MRMC, pair', 'MRMC, pooled over 4'], True)
    """
    rows = []
    for i, layout in enumerate(layouts):
        for r in n_runs:
            for p in n_patients:
                rng = np.random.default_rng([seed, i, r, p])
                parts = []
                for begin in range(0, rounds, CHUNK):
                    table = layout.draw(rng, min(CHUNK, rounds - begin), max(pooled_over), r, p)
                    parts.append(_outcomes(table, layout, pooled_over, rivals))
                setting = {"layout": layout.name, "runs": r, "patients": p}
                for analysis in parts[0]:
                    joined = {
                        key: np.concatenate([part[analysis][key] for part in parts]) for key in parts[0][analysis]
                    }
                    rates = {key: round(100 * float(hits.mean()), 2) for key, hits in joined.items() if len(hits)}
                    rows.append(setting | {"analysis": analysis, "rounds": rounds} | rates)
    return rows


Outcome = dict[str, NDArray[np.bool_] | np.bool_]


def _outcomes(table: FloatArray, layout: Layout, pooled_over: Sequence[int], rivals: bool) -> dict[str, Outcome]:
    """What each analysis says about each table: arrays [N] of bool."""
    shared = layout.shared_runs
    pair = contrast_of(table, 0, 1, shared_runs=shared)
    found = {"MRMC, pair": _judged(pair.interval())}
    for m in pooled_over:
        part = table[:, :m]
        first = contrast_of(part, 0, 1, shared_runs=shared, pooled=True)
        outcome = _judged(first.interval()) | {"refused": ~first.pooled}
        means = part.mean((-2, -1))
        t = np.abs(means[:, :1] - means[:, 1:]).max(-1) / first.standard_error
        outcome["family_alarms"] = (t > _critical(m - 1, first.df))[first.pooled]
        bystanders = contrast_of(part, m - 2, m - 1, shared_runs=shared, pooled=True)
        outcome["bystanders"] = bystanders.p_value() < 0.05
        found[f"MRMC, pooled over {m}"] = outcome
    if not rivals:
        return found
    a, b = table[:, 0], table[:, 1]
    found |= {name: _judged(interval(a, b)) for name, interval in RIVALS.items()}
    by_wins: Outcome = {"false_alarms": wins(a, b)}
    found["P(A > B)"] = by_wins | {f"power_{g:g}": wins(a + g, b) for g in GAINS}
    return found


def _judged(interval: Interval) -> Outcome:
    """False alarms, coverage and power of an interval of a difference that is 0 (or, moved, a gain)."""
    low, high = interval
    holds = (low <= 0) & (high >= 0)
    return {"false_alarms": ~holds, "coverage": holds} | {f"power_{g:g}": low + g > 0 for g in GAINS}


def _critical(n_contrasts: int, df: PerRound) -> FloatArray:
    """Dunnett's critical values, interpolated between a grid; the error is below 0.001 from 2 degrees of freedom on."""
    grid, values = _critical_values(n_contrasts)
    return np.exp(np.interp(-np.log(df), grid, values))


@cache
def _critical_values(n_contrasts: int) -> tuple[FloatArray, FloatArray]:
    """Logarithms of 1 / df on a grid, and of the critical values there."""
    grid = np.linspace(-9.0, 0.0, 91)
    return grid, np.log([dunnett_critical_value(n_contrasts, float(np.exp(-x))) for x in grid])


def simulate_folds(
    n_folds: Sequence[int] = (5, 10),
    n_runs: Sequence[int] = (1, 3),
    training: Sequence[float] = (0.0, 0.3, 0.6, 0.9),
    *,
    n_patients: int = 60,
    rounds: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a cross-validation and analysis: what `simulate` tells, with the spreads of the committed rows.

    training: standard deviation, in each method, of what the choice of training patients does to it. The training sets
    of K folds overlap, so that these effects have the correlation (K - 2) / (K - 1) between folds.

    >>> rows = simulate_folds([5], [1], [0.0], rounds=200)
    >>> [row["analysis"] for row in rows]
    ['corrected t over folds', 't over folds', 'patients as units']
    """
    spread, rows = LAYOUTS[0], []
    for k in n_folds:
        members = [list(range(f, n_patients, k)) for f in range(k)]
        fold = np.arange(n_patients) % k
        for r in n_runs:
            for effect in training:
                rng = np.random.default_rng([seed, k, r, round(100 * effect)])
                taught = rng.normal(size=(rounds, n_patients))
                outside = taught.sum(1, keepdims=True) - np.stack([taught[:, own].sum(1) for own in members], 1)
                of_fold = effect * outside / np.sqrt([n_patients - len(own) for own in members])
                of_fold += spread.method_run * rng.normal(size=(rounds, r, k)).mean(1)
                own = spread.method_patient * rng.normal(size=(rounds, n_patients))
                rest = spread.rest * rng.normal(size=(rounds, r, n_patients)).mean(1)
                d = np.sqrt(2) * (of_fold[:, fold] + own + rest)
                means = np.stack([d[:, people].mean(1) for people in members], -1)
                setting = {"layout": f"{k} folds, training patients {effect:g}", "runs": r, "patients": n_patients}
                for analysis, interval in (
                    ("corrected t over folds", fold_contrast(d, members).interval()),
                    ("t over folds", _around(d.mean(1), means.std(1, ddof=1) / np.sqrt(k), np.asarray(k - 1.0))),
                    ("patients as units", paired_t(d[:, :, None], np.zeros_like(d)[:, :, None])),
                ):
                    rates = {key: round(100 * float(hits.mean()), 2) for key, hits in _judged(interval).items()}
                    rows.append(setting | {"analysis": analysis, "rounds": rounds} | rates)
    return rows


def bench_method_claims(rounds: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Rows of `simulate` and the figures that a reader looks for, ready for JSON."""
    rows = simulate(rounds=rounds, seed=seed)
    pooled = simulate(LAYOUTS, (3, 5), (24,), rounds=rounds, pooled_over=(11,), rivals=False, seed=seed + 1)
    rows += [row for row in pooled if row["analysis"] != "MRMC, pair"]
    ratios = {}
    for analysis in dict.fromkeys(row["analysis"] for row in rows):
        own = [row for row in rows if row["analysis"] == analysis and row["layout"] != UNSHARED.name]
        ratios[f"false alarms in %, lowest, {analysis}"] = min(row["false_alarms"] for row in own)
        ratios[f"false alarms in %, highest, {analysis}"] = max(row["false_alarms"] for row in own)
        for row in own:
            if (row["layout"], row["runs"], row["patients"]) == (LAYOUTS[0].name, 5, 24):
                ratios[f"power in % at +2 points, 5 runs, 24 patients, {analysis}"] = row["power_2"]
    facts = {
        "rounds": rounds,
        "standard_error_of_5_percent": float(np.sqrt(0.0475 / rounds)),
        "gains_in_points": list(GAINS),
        "layouts": [vars(layout) for layout in (*LAYOUTS, UNSHARED)],
    }
    return {"rows": rows + simulate_folds(rounds=rounds, seed=seed), "ratios": ratios, "facts": facts}
