"""Families of tests: what a table set out to show comes first, and what it merely shows earns no mark.

1. Primary: the average, for the contrasts that were named beforehand. Corrected among themselves (Holm, or Dunnett
   where the error is pooled), or tested in a fixed sequence that stops at the first without a mark.
2. Structures of these contrasts: a second family, corrected within itself. A structure carries a mark only where the
   average of its contrast does, because the average was tested first.
3. Everything else is exploratory: its p-values are not corrected, stand in parentheses and carry no mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from pixelglobal.statistics.correction import correct_p_values
from pixelglobal.tables.contrasts import AVERAGE
from pixelglobal.tables.table import GAIN, LOSS

ALPHA = 0.05  # of corrected p-values that earn a mark
Family = Literal["holm", "sequence"]


def with_families(
    tests: pd.DataFrame, primary: Sequence[str], *, family: Family = "holm", correction: str = "holm"
) -> pd.DataFrame:
    """The tests with the columns family, corrected_p, claimable, confirmed and reachable.

    tests: method, structure, asked_unit, p_value, smallest_p (what the largest effect could reach), dunnett_p if any.
    primary: methods whose contrast with the reference is the question, in the order of a sequence. family: how the
    primary contrasts are corrected; correction: holm, bh or none, for both families. claimable: the test is in a family
    whose turn it is. confirmed: its corrected p earns a mark. reachable: the largest effect would have earned one.
    """
    tests = tests.assign(
        family="exploratory", corrected_p=tests["p_value"], claimable=False, confirmed=False, reachable=False
    )
    for _, part in tests.groupby("asked_unit", sort=False):
        named = part["method"].isin(primary)
        first = part[named & (part["structure"] == AVERAGE)]
        second = part[named & (part["structure"] != AVERAGE)]
        tests.loc[first.index, "family"], tests.loc[second.index, "family"] = "primary", "structures"
        for p_column, result in (("p_value", "confirmed"), ("smallest_p", "reachable")):
            of_first = _primary(first, p_column, list(primary), family, correction, set(part["method"]) - set(primary))
            marked = of_first.index[of_first < ALPHA]
            of_second = pd.Series(correct_p_values(second[p_column].to_numpy(), correction), second.index)
            open_gate = second["method"].isin(first.loc[marked, "method"])
            tests.loc[marked, result] = True
            tests.loc[second.index, result] = open_gate & (of_second < ALPHA)
            if p_column == "p_value":
                tests.loc[first.index, "claimable"], tests.loc[second.index, "claimable"] = True, open_gate
                tests.loc[first.index, "corrected_p"], tests.loc[second.index, "corrected_p"] = of_first, of_second
    return tests


def _primary(
    first: pd.DataFrame, p_column: str, order: list[str], family: Family, correction: str, others: set[str]
) -> pd.Series:
    """Corrected p of the primary family."""
    if family == "sequence":
        ordered = first.sort_values("method", key=lambda names: names.map(order.index), kind="stable")
        return ordered[p_column].cummax()
    if family != "holm":
        raise ValueError(f"family={family!r}: expected holm or sequence")
    p_values = first[p_column].to_numpy(float)
    if p_column == "p_value" and correction == "holm" and not others and "dunnett_p" in first.columns:
        dunnett = first["dunnett_p"].to_numpy(float)
        if np.isfinite(dunnett).all():
            return pd.Series(dunnett, first.index)
    return pd.Series(correct_p_values(p_values, correction), first.index)


def p_text(p: float, difference: float, *, confirmed: bool = False, claimable: bool = True) -> str:
    """A p-value with its mark, in parentheses where nothing may be claimed from it.

    >>> p_text(0.004, 1.0, confirmed=True), p_text(0.0002, -1.0, confirmed=True), p_text(0.03, 1.0, claimable=False)
    ('0.004*', '<0.001†', '(0.030)')
    """
    text = "<0.001" if p < 0.001 else f"{p:.3f}"
    if confirmed:
        return text + (GAIN if difference > 0 else LOSS)
    return text if claimable else f"({text})"
