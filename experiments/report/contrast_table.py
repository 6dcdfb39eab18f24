"""The table of what a study tests: each contrast with its gain, interval and p over training runs and patients."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.studies.verdict import ContrastResult, Verdict
from pixelglobal.tables.table import GAIN, LOSS, Table

ALPHA = 0.05
HEAD = ["method", "over", "gain", "95 % interval", "corrected p", "runs", "patients"]


def contrast_table(verdict: Verdict, title: str) -> Table:
    """One line for each contrast, the primary ones first; `comparisons` holds every number."""
    tested = sorted(verdict.tested, key=lambda one: not one.contrast.primary)
    caption = (
        "The claim is about the methods: gains in average DSC points, over training runs and patients together. "
        f"'{GAIN}': better, '{LOSS}': worse, corrected p < {ALPHA}. (primary): the verdict depends on it."
    )
    frame = pd.DataFrame([_line(one) for one in tested], columns=HEAD)
    details = pd.DataFrame(verdict.to_dict()["contrasts"])
    return Table(title, caption, _card(tested), frame, details, frozenset())


def _line(one: ContrastResult) -> list[str]:
    over = f"{one.contrast.baseline} (primary)" if one.contrast.primary else one.contrast.baseline
    c = one.comparison
    if c is None:
        return [one.contrast.method, over, "not tested", "", "", str(one.n_runs), str(one.n_patients)]
    mark = "" if one.corrected_p >= ALPHA else GAIN if c.difference > 0 else LOSS
    p = ("<0.001" if one.corrected_p < 0.001 else f"{one.corrected_p:.3f}") + mark
    interval = f"{c.low:+.2f} to {c.high:+.2f}"
    runs = one.runs.replace(" runs", "", 1)
    return [one.contrast.method, over, f"{c.difference:+.2f}", interval, p, runs, str(c.n_patients)]


def _card(tested: Sequence[ContrastResult]) -> tuple[str, ...]:
    known = [one for one in tested if one.comparison is not None]
    primary = sum(one.contrast.primary for one in known)
    analyses = [one.comparison.analysis for one in known if one.comparison is not None]
    lines = [
        "Average: the mean over structures of the means over patients; training runs are paired by their seed",
        "Test: multi-reader multi-case analysis with training runs as readers; Holm correction over the primary "
        f"contrasts ({primary}) and, as a family of their own, over the others ({len(known) - primary})",
    ]
    for analysis, error in (("pooled", "all methods of the study"), ("pair", "the two methods alone")):
        if analysis in analyses:
            lines.append(f"Error from the spread of {error}: {analyses.count(analysis)} of {len(known)} contrasts")
    lines += dict.fromkeys(one.comparison.note for one in known if one.comparison and one.comparison.note)
    if len(known) < len(tested):
        lines.append("Not tested: the two methods share fewer than 3 training runs (seeds), or there is 1 patient")
    return tuple(lines)
