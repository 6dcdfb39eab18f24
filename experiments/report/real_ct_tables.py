"""The committed results on real CT as the tables of docs/method.md and README.

Rows and registration of study label_efficiency: `results/2026-11-28_label_efficiency/`. 12 draws of labelled patients
share 4 pre-trainings of each method; 24 test patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.studies.label_efficiency import STUDY
from experiments.studies.verdict import Contrast, ContrastResult, compare_contrasts, primary_endpoint
from pixelglobal.tables.rows import complete_rows

FOLDER = Path(__file__).resolve().parents[1] / "results" / "2026-11-28_label_efficiency"
WORDS = {"random": "random weights", "full_matched": "full, matched", "pgl": "PGL"}
STAGES = {"": "300 steps", "_long": "1,000 steps", "_self": "300 steps, self-training"}


def label_efficiency_rows() -> pd.DataFrame:
    """The committed rows, one for each method, draw, patient and structure."""
    files = sorted(FOLDER.glob("*_patient*.csv"))
    return complete_rows(pd.concat([pd.read_csv(file) for file in files], ignore_index=True), str(FOLDER))


def label_efficiency_means() -> str:
    """Mean DSC of every method, by fine-tuning and number of labelled patients, with the range of its runs."""
    rows = label_efficiency_rows()
    counts = sorted(rows["labelled_patients"].unique().tolist())
    head = ["fine-tuning", "initialisation", *(f"{n} labelled patient{'s' * (n > 1)}" for n in counts)]
    cells: dict[str, list[str]] = {}
    for n in counts:
        table = primary_endpoint(rows[rows["labelled_patients"] == n])
        for method in table.values:
            means = table.run_means(method)
            runs = f"{len(means)} run{'s' * (len(means) > 1)}"
            text = f"{means.mean():.1f} ({means.min():.1f} to {means.max():.1f}; {runs})"
            cells.setdefault(method, ["not run"] * len(counts))[counts.index(n)] = text
    order = [m for stage in STAGES for m in cells if _stage_of(m) == stage]
    return _markdown(head, [[STAGES[_stage_of(m)], _initialisation(m), *cells[m]] for m in order])


def label_efficiency_contrasts() -> str:
    """Every contrast of the study at each number of labelled patients: gain, interval, p."""
    rows = label_efficiency_rows()
    head = ["labelled patients", "fine-tuning", "", "gain [95 %]", "p", "corrected p", "runs", "patients"]
    lines = []
    for n in sorted(rows["labelled_patients"].unique().tolist(), reverse=True):
        part = rows[rows["labelled_patients"] == n]
        contrasts = STUDY.contrasts_among(list(dict.fromkeys(part["method"])))
        if n != STUDY.rule.labelled_patients:  # only there a contrast is primary
            contrasts = tuple(Contrast(c.method, c.baseline, primary=False) for c in contrasts)
        lines += [_line(n, one) for one in compare_contrasts(part, contrasts)]
    return _markdown(head, lines)


def label_efficiency_verdict() -> str:
    """The study's criterion and what the rows say, as registered."""
    return f"{STUDY.criterion}\n\n**{STUDY.verdict(label_efficiency_rows())}.**\n"


def _line(n: int, one: ContrastResult) -> list[str]:
    method, baseline = one.contrast.method, one.contrast.baseline
    between = f"{_initialisation(method)}, over {_initialisation(baseline)}"
    if _stage_of(method) != _stage_of(baseline):
        between = f"{_initialisation(method)}: over {STAGES[_stage_of(baseline)]}"
    between += " (primary)" if one.contrast.primary else ""
    c = one.comparison
    tested = ["not tested", "", ""]
    if c is not None:
        p_values = ["<0.0001" if p < 0.0001 else f"{p:.4f}" for p in (c.p_value, one.corrected_p)]
        tested = [f"{c.difference:+.2f} [{c.low:+.2f}, {c.high:+.2f}]", *p_values]
    return [str(n), STAGES[_stage_of(method)], between, *tested, one.runs, str(one.n_patients)]


def _stage_of(method: str) -> str:
    return next((stage for stage in ("_long", "_self") if method.endswith(stage)), "")


def _initialisation(method: str) -> str:
    name = method.removesuffix(_stage_of(method))
    return WORDS.get(name, name.upper())


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) + "\n"
