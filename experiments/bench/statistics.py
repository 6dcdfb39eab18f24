"""How often the tests cry wolf and the intervals hold, by simulation; and how long the paper's Table 1 takes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from experiments.bench.timing import Findings
from pixelglobal.statistics.paired import compare_paired
from pixelglobal.statistics.runs import compare_runs
from pixelglobal.tables.comparison import comparison_table

Simulated = tuple[np.ndarray, np.ndarray]


def clustered(
    rng: np.random.Generator,
    n_patients: int,
    correlation: float,
    slices: tuple[int, int] = (30, 80),
    skewed: bool = False,
) -> Simulated:
    """Differences of slices whose true mean is 0, and their patients.

    correlation: the share of the variance that lies between patients (intra-class correlation). skewed: patients
    follow an exponential distribution moved to mean 0, as where a few patients fail badly.
    """
    counts = rng.integers(slices[0], slices[1] + 1, n_patients)
    between = rng.exponential(size=n_patients) - 1 if skewed else rng.normal(size=n_patients)
    owner = np.repeat(np.arange(n_patients), counts)
    values = between[owner] * np.sqrt(correlation) + rng.normal(size=len(owner)) * np.sqrt(1 - correlation)
    return values, owner


def error_rates(
    n_patients: int, correlation: float, *, rounds: int, n_resamples: int, skewed: bool = False, seed: int = 0
) -> dict[str, float]:
    """Shares of simulated studies without any difference: p < 0.05 by unit, and intervals that hold the true 0."""
    rng = np.random.default_rng([seed, n_patients, round(correlation * 100), skewed])
    counts = dict.fromkeys(("patient_alarms", "patient_coverage", "slice_alarms", "slice_coverage"), 0)
    for turn in range(rounds):
        differences, owner = clustered(rng, n_patients, correlation, skewed=skewed)
        nothing = np.zeros_like(differences)
        for unit in ("patient", "slice"):
            c = compare_paired(
                differences, nothing, owner, unit=unit, n_resamples=n_resamples, n_flips=n_resamples, seed=turn
            )
            counts[f"{unit}_alarms"] += c.p_value < 0.05
            counts[f"{unit}_coverage"] += c.low <= 0 <= c.high
    return {name: count / rounds for name, count in counts.items()}


def run_error_rates(
    n_patients: int = 105, n_runs: int = 5, *, rounds: int, n_resamples: int, seed: int = 0
) -> dict[str, float]:
    """Shares of p < 0.05 when one method is trained twice, or `n_runs` times a side, in DSC points.

    Runs spread by 0.6 points, patients by 10, and a run's effect on a patient by 2.
    """
    rng = np.random.default_rng([seed, n_patients, n_runs])
    one, averaged = "one run a side, over patients", f"means of {n_runs} runs a side, over patients"
    several = f"{n_runs} runs a side, over runs"
    counts = dict.fromkeys((one, averaged, several), 0)
    patients = np.arange(n_patients)
    for turn in range(rounds):
        level = rng.normal(80, 10, n_patients)
        a, b = (level + rng.normal(0, 0.6, (n_runs, 1)) + rng.normal(0, 2, (n_runs, n_patients)) for _ in range(2))
        for way, x, y in ((one, a[0], b[0]), (averaged, a.mean(0), b.mean(0))):
            counts[way] += (
                compare_paired(x, y, patients, n_resamples=n_resamples, n_flips=n_resamples, seed=turn).p_value < 0.05
            )
        counts[several] += compare_runs(a.mean(1).tolist(), b.mean(1).tolist()).p_value < 0.05
    return {way: count / rounds for way, count in counts.items()}


def drawn(findings: Findings) -> str:
    """The false alarms of `bench_statistics` as SVG."""
    from experiments.report.error_rates import draw_error_rates
    from experiments.report.figures import svg

    runs = {name.split(", ", 2)[2]: rate for name, rate in findings.ratios.items() if "trained twice" in name}
    return svg(draw_error_rates(pd.DataFrame(findings.rows), runs))


def bench_statistics(
    rounds: int = 1000, n_resamples: int = 1000, patients: Sequence[int] = (20, 50, 105), seed: int = 0
) -> Findings:
    """Rows of error rates for several cohort sizes and intra-patient correlations, and the time of Table 1."""
    findings = Findings(
        f"{rounds} simulated comparisons without a difference, 30 to 80 slices a patient: errors in %",
        facts={"rounds": rounds, "n_resamples": n_resamples, "standard_error_of_5_percent": np.sqrt(0.0475 / rounds)},
    )
    settings = [(n, icc, False) for n in patients for icc in (0.1, 0.3, 0.5)] + [(n, 0.5, True) for n in patients]
    for n, icc, skewed in settings:
        rates = error_rates(n, icc, rounds=rounds, n_resamples=n_resamples, skewed=skewed, seed=seed)
        row = {"patients": n, "ICC": icc, "effects": "skewed" if skewed else "normal"}
        findings.rows.append(row | {name: round(value * 100, 1) for name, value in rates.items()})
    for way, rate in run_error_rates(rounds=rounds, n_resamples=n_resamples, seed=seed).items():
        findings.ratios[f"false alarms in %, one method trained twice, {way}"] = round(rate * 100, 1)
    findings.ratios["table_1_seconds"] = seconds_of_table_1()
    return findings


def seconds_of_table_1(n_resamples: int = 10_000) -> float:
    """Seconds for rows of the paper's size: 3 cohorts, 4 methods, 16 structures, 3 averages, all pairs, both units."""
    cohorts = [table_1_rows(105, 7794, 2, 0), table_1_rows(50, 3200, 5, 1), table_1_rows(50, 3200, 9, 2)]
    methods = ["random", "gl", "pgl", "ours"]
    began = time.perf_counter()
    for rows in cohorts:
        for i, reference in enumerate(methods[:-1]):
            comparison_table(rows, reference=reference, methods=methods[i:], unit="both", n_resamples=n_resamples)
    return time.perf_counter() - began


def table_1_rows(n_patients: int, n_slices: int, n_structures: int, seed: int) -> pd.DataFrame:
    """Invented rows of one cohort of the paper's size."""
    rng = np.random.default_rng(seed)
    owner = np.sort(np.arange(n_slices) % n_patients)
    index = np.arange(n_slices) - np.searchsorted(owner, owner)
    parts = []
    for method in ("random", "gl", "pgl", "ours"):
        for s in range(n_structures):
            level = rng.normal(1.0, 0.5, n_patients)
            for patient, where, score in (
                (owner, index, stats.norm.cdf(level[owner] + rng.normal(size=n_slices))),
                (np.arange(n_patients), np.full(n_patients, -1), stats.norm.cdf(level)),
            ):
                names = [f"p{i:03d}" for i in patient]
                parts.append(
                    pd.DataFrame(
                        {"method": method, "seed": 0, "case": names, "patient": names, "slice_index": where,
                         "structure": f"s{s}", "dice": score, "hausdorff_mm": 50 * (1 - score), "diagonal_mm": 500.0}
                    )
                )  # fmt: skip
    return pd.concat(parts, ignore_index=True)
