"""The table of what a study tests: each contrast with its gain, interval and p over training runs and patients."""

from __future__ import annotations

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
    return [one.contrast.method, over, f"{c.difference:+.2f}", interval, p, str(c.n_runs), str(c.n_patients)]


def _card(tested: list[ContrastResult]) -> tuple[str, ...]:
    known = [one.comparison for one in tested if one.comparison is not None]
    sizes = ["primary", "other"]
    families = [sum(one.contrast.primary == p and one.comparison is not None for one in tested) for p in (True, False)]
    errors = {"pooled": "all methods of the table", "pair": "the two methods alone"}
    lines = [
        "Average: each patient's mean over the patient's own structures; runs are paired by seed",
        "Test: multi-reader multi-case analysis with training runs as readers; Holm correction over "
        + " and over ".join(f"{n} {size} contrasts" for n, size in zip(families, sizes, strict=True)),
        *(f"Error from {errors[way]}: {sum(c.analysis == way for c in known)} contrasts" for way in errors
          if any(c.analysis == way for c in known)),
        *dict.fromkeys(c.note for c in known if c.note),
    ]  # fmt: skip
    if len(known) < len(tested):
        lines.append("Not tested: the two methods share fewer than 3 training runs (seeds)")
    return tuple(lines)
