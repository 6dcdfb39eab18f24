"""How much a published table of means says: the probability that each "better than" in it is false."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pixelglobal.statistics.false_claims import probability_of_false_claim_from_means
from pixelglobal.tables.metric import metric_of
from pixelglobal.tables.read_rows import read_table

CORRELATIONS = (0.0, 0.5, 0.9)  # shown where none is assumed
COLUMNS = ("method", "mean", "sd", "n")


def claims_from_means(file: Path, *, reference: str | None = None, correlation: float | None = None) -> Iterator[str]:
    """One sentence for each pair of methods, or for the reference and each other method.

    file: CSV with the columns method, mean, sd (over patients, no standard error) and n (patients), and metric if it is
    not dice. correlation: of the two methods' scores over patients; papers do not print it.
    Raises ValueError that names the file and what is wrong in it.
    """
    table = read_table(file)
    if lacking := [column for column in COLUMNS if column not in table.columns]:
        raise ValueError(f"{file}: the columns {', '.join(lacking)} are missing; needed are {', '.join(COLUMNS)}")
    table = table.assign(
        metric=table["metric"] if "metric" in table.columns else "dice", method=table["method"].astype(str)
    )
    for column in COLUMNS[1:]:
        table[column] = pd.to_numeric(table[column], errors="coerce")
    wrong = table[list(COLUMNS)].isna().any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{file}, row {int(wrong.idxmax()) + 1}: expected a name and three numbers, {', '.join(COLUMNS)}"
        )
    if reference is not None and reference not in set(table["method"]):
        raise ValueError(f"{file}: reference={reference!r} is not among the methods {', '.join(table['method'])}")
    for metric, rows in table.groupby("metric", sort=False):
        records = list(rows.itertuples())
        for i, one in enumerate(records):
            for other in records[i + 1 :]:
                if reference is None or reference in (one.method, other.method):
                    yield _sentence(one, other, metric_of(str(metric)).higher_is_better, str(metric), correlation)


def _sentence(one: object, other: object, higher_is_better: bool, metric: str, correlation: float | None) -> str:
    better, worse = (one, other) if (one.mean >= other.mean) == higher_is_better else (other, one)  # type: ignore[attr-defined]
    n = min(better.n, worse.n)  # type: ignore[attr-defined]
    words = []
    for r in CORRELATIONS if correlation is None else (correlation,):
        p = probability_of_false_claim_from_means(
            mean_better=better.mean, mean_other=worse.mean, sd_better=better.sd, sd_other=worse.sd, n=int(n),  # type: ignore[attr-defined]
            correlation=r, higher_is_better=higher_is_better,
        )  # fmt: skip
        words.append(f"{p:.1%} with a correlation of {r:g}")
    return (
        f"{better.method} is better than {worse.method} ({metric} {better.mean:g} against {worse.mean:g}, "  # type: ignore[attr-defined]
        f"{n:g} patients): false with a probability of {', '.join(words)}; t(n-1) of sqrt(n) times the difference of "
        "means over its standard deviation; of these checkpoints, not of the methods"
    )
