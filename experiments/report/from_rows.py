"""The parts of a report that follow from rows alone: verdict, forest plot, tables and patients.

`report_rows` writes a page of rows without runs, such as the committed ones; `study_report` adds what only the folders
of the runs know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.report.behind import rows_behind
from experiments.report.cohorts import cohorts_picture, cohorts_table
from experiments.report.contrast_table import contrast_table
from experiments.report.figures import DOUBLE_CM, SINGLE_CM
from experiments.report.forest import contrast_looks, contrasts_of, draw_forest, forest_words, gains_of
from experiments.report.learning_curve import draw_learning_curve, learning_points, learning_words
from experiments.report.page import Picture, Report, write_report
from experiments.report.palette import Look, looks
from experiments.report.patients import draw_patients, patients_data, patients_words
from experiments.report.verdict_words import badges, verdict_sentence
from experiments.studies.study import Study, one_word
from experiments.studies.verdict import Verdict
from pixelglobal.tables.learning_curve import learning_table
from pixelglobal.tables.paper import beside_paper
from pixelglobal.tables.results_table import ResultsTable, available_metrics, results_table
from pixelglobal.tables.table import Table

BY_SLICE = "slice"
LEARNING = (
    "Average DSC by number of labelled patients (the paper's Figure 5). Vertical lines are 95 % intervals over "
    "training runs; each small dot is a run."
)
PATIENTS = (
    "Each dot is the mean over the structures of one test patient in one training run; grey lines join a patient's "
    "means over runs; bars are the averages of the table. A click on a dot opens the case."
)


@dataclass(frozen=True)
class CohortRows:
    """The rows of one cohort and what was decided of them."""

    cohort: str
    rows: pd.DataFrame
    verdict: Verdict
    labelled: int | None = None  # the number of labelled patients at which the verdict is read; None: the smallest

    @property
    def decisive(self) -> pd.DataFrame:
        """The rows that the verdict reads, of one number of labelled patients."""
        if "labelled_patients" not in self.rows:
            return self.rows
        counts = self.rows["labelled_patients"]
        return self.rows[counts == (self.labelled if self.labelled in set(counts) else counts.min())]


def cohorts_of(study: Study, rows: pd.DataFrame) -> list[CohortRows]:
    """Each cohort of the rows with its verdict."""
    asked = study.rule.labelled_patients
    return [
        CohortRows(str(name), part, study.verdict(part), asked) for name, part in rows.groupby("cohort", sort=False)
    ]


def verdict_lines(study: Study, cohorts: Sequence[CohortRows]) -> list[str]:
    """The verdict of each cohort as a sentence; its name only where there are several."""
    several = len(cohorts) > 1
    return [verdict_sentence(study, one.verdict, one.cohort if several else "") for one in cohorts]


def lead_pictures(cohorts: Sequence[CohortRows], methods: Mapping[str, Look]) -> list[Picture]:
    """The forest plot of all cohorts, and the learning curve where labels were varied."""
    gains = [gain for one in cohorts for gain in gains_of(one.decisive, one.verdict.tested, one.cohort)]
    pictures = []
    if gains:
        pairs = contrasts_of(gains)
        contrasts = [
            {"method": method, "baseline": baseline, "look": look.method, "color": look.color, "symbol": look.symbol}
            for (method, baseline), look in zip(pairs, contrast_looks(pairs, methods), strict=True)
        ]
        caption = (
            "Gain in DSC points on average and for each structure. Thick lines are 95 % intervals over patients, for "
            "the training runs that there are; thin lines are over runs and patients, for the methods, and decide the "
            "verdict."
        )
        wide, narrow = (draw_forest(gains, methods, width_cm=width) for width in (DOUBLE_CM, SINGLE_CM))
        data = {"gains": [gain.to_dict() for gain in gains], "contrasts": contrasts}
        words = forest_words(gains, methods)
        pictures.append(Picture("gains", "Gains", caption, wide, words, narrow, "forest", data))
    for one in cohorts:
        if "labelled_patients" in one.rows and one.rows["labelled_patients"].nunique() > 1:
            name, where = "learning", ""
            if len(cohorts) > 1:
                name, where = f"learning_{one_word(one.cohort)}", f", {one.cohort}"
            points = learning_points(one.rows, list(methods))
            wide, narrow = (draw_learning_curve(points, methods, width_cm=width) for width in (DOUBLE_CM, SINGLE_CM))
            pictures.append(
                Picture(name, "Learning curve" + where, LEARNING, wide, learning_words(points, methods), narrow,
                        "learning", {"points": points})
            )  # fmt: skip
    return pictures


def patients_picture(one: CohortRows, methods: Mapping[str, Look]) -> Picture:
    """Every patient and run of a cohort."""
    rows = one.decisive
    wide, narrow = (draw_patients(rows, methods, width_cm=width) for width in (DOUBLE_CM, SINGLE_CM))
    words, data = patients_words(rows, methods), patients_data(rows, methods)
    return Picture("patients", "Patients", PATIENTS, wide, words, narrow, "patients", data)


def behind_rows(cohorts: Sequence[CohortRows]) -> dict[str, Any]:
    """The rows behind the numbers, and the number of labelled patients that the tables are about."""
    rows = pd.concat([one.rows for one in cohorts])
    decisive = cohorts[0].decisive
    fewest = {"fewest": int(decisive["labelled_patients"].min())} if "labelled_patients" in rows else {}
    return {"rows": rows_behind(rows), **fewest}


def compact_tables(study: Study, one: CohortRows, words: Mapping[str, str]) -> list[ResultsTable]:
    """A table for each metric that the rows have, and that of Dice by slice, as the paper tests."""
    rows = one.decisive
    methods = [method for method in words if method in set(rows["method"])]
    reference = study.reference if study.reference in methods else methods[-1]
    primary = [c.baseline for c in study.contrasts if c.primary and c.method == reference and c.baseline in methods]
    how = {"reference": reference, "primary": primary or None, "methods": methods, "words": words,
           "title": f"{study.title} on {one.cohort}"}  # fmt: skip
    volumes = rows[rows["slice_index"] == -1] if "slice_index" in rows else rows
    made = [results_table(volumes, metric=metric, **how) for metric in available_metrics(volumes)]  # type: ignore[arg-type]
    if "slice_index" in rows and (rows["slice_index"] >= 0).any():
        made.append(results_table(rows, metric="dice", unit=BY_SLICE, **how))  # type: ignore[arg-type]
    return made


def other_tables(study: Study, one: CohortRows) -> list[Table]:
    """What the verdict rests on, the learning table and the paper's numbers beside ours."""
    title = f"{study.title} on {one.cohort}"
    tables = [contrast_table(one.verdict, f"{title}: what the verdict rests on")]
    if "labelled_patients" in one.rows and one.rows["labelled_patients"].nunique() > 1:
        methods = list(dict.fromkeys(one.rows["method"]))
        reference = study.reference if study.reference in methods else methods[-1]
        primary = [c.baseline for c in study.contrasts if c.primary and c.method == reference]
        named = [method for method in primary if method in methods]
        return [learning_table(one.rows, reference=reference, title=title, primary=named or None), *tables]
    beside = beside_paper(one.rows, cohort=one.cohort, table=study.paper_table)
    return tables if beside is None else [*tables, beside]


def report_rows(study: Study, rows: pd.DataFrame, folder: Path) -> Path:
    """Write the page of rows alone, without the folders of their runs; returns `folder/report.html`."""
    if "cohort" not in rows:
        rows = rows.assign(cohort="rows")
    cohorts = cohorts_of(study, rows)
    methods = looks(list(dict.fromkeys(rows["method"])))
    words = {method: look.words for method, look in methods.items()}
    results = {one.cohort: compact_tables(study, one, words) for one in cohorts}
    runs = rows[["method", "seed", "cohort"]].drop_duplicates().to_dict("records")
    report = Report(
        title=f"{study.title} on {' and '.join(one.cohort for one in cohorts)}",
        question=study.question,
        verdicts=verdict_lines(study, cohorts),
        badges=badges(study, {one.cohort: one.verdict for one in cohorts}, ""),
        lead=[*lead_pictures(cohorts, methods), *cohorts_picture(results, methods, study.paper_table)],
        results=results,
        tables=[
            *cohorts_table(results, study.paper_table),
            *(table for one in cohorts for table in other_tables(study, one)),
        ],
        pictures=[named_for(patients_picture(one, methods), one, len(cohorts) > 1) for one in cohorts],
        runs=[{str(key): value for key, value in run.items()} for run in runs],
        notes=[f"The paper says: {study.paper_says}", study.criterion],
        facts={},
        methods=list(methods),
        behind=behind_rows(cohorts),
    )
    return write_report(report, folder)


def named_for(picture: Picture, one: CohortRows, several: bool) -> Picture:
    """A picture of a cohort under a name of its own where there are several cohorts."""
    if not several:
        return picture
    name, heading = f"{picture.name}_{one_word(one.cohort)}", f"{picture.heading}, {one.cohort}"
    return replace(picture, name=name, heading=heading)
