"""A study's report from its finished stages: its tables, its pictures and what a reader must know of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from experiments.report.collect import (
    by_cohort,
    collapses,
    curves_of,
    environment_of,
    failures,
    finished,
    leakage_note,
    overlays_of,
    rows_of,
    run_table,
    uncertainty_of,
)
from experiments.report.contrast_table import contrast_table
from experiments.report.figures import draw_curves, draw_overlays, draw_patients, draw_uncertainty
from experiments.report.learning_curve import draw_learning_curve
from experiments.report.page import Picture, Report, write_report
from experiments.runner.pipeline import Pipeline
from experiments.runner.plan import against_actual
from experiments.runner.registration import compared_with_registration
from experiments.studies.study import Study, one_word
from experiments.studies.verdict import Verdict
from pixelglobal.data.store import Store
from pixelglobal.files import write_file, write_json
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.learning_curve import learning_table
from pixelglobal.tables.paper import beside_paper
from pixelglobal.tables.table import Table


@dataclass(frozen=True)
class StudyReport:
    """What was written, and what nobody may overlook."""

    page: Path
    tables: tuple[Table, ...]
    verdicts: dict[str, Verdict]  # of each cohort
    warnings: tuple[str, ...]


def report_study(study: Study, pipelines: Sequence[Pipeline], folder: Path) -> StudyReport:
    """Write the report of the runs that are finished: rows.parquet, verdict.json, tables, figures and report.html.

    Raises ValueError if no run is finished.
    """
    rows = rows_of(pipelines)
    write_file(folder / "rows.parquet", lambda path: rows.to_parquet(path, index=False))
    cohorts = by_cohort(finished(pipelines))
    verdicts = {cohort: study.verdict(rows[rows["cohort"] == cohort]) for cohort in cohorts}
    write_json(folder / "verdict.json", {"study": study.name, "criterion": study.criterion, "cohorts": {
        cohort: verdict.to_dict() for cohort, verdict in verdicts.items()}})  # fmt: skip
    tables: list[Table] = []
    pictures: list[Picture] = []
    for cohort, of_cohort in cohorts.items():
        made, drawn = _of_cohort(study, of_cohort, rows[rows["cohort"] == cohort], verdicts[cohort])
        if len(cohorts) > 1:
            word = one_word(cohort)
            made = [replace(table, run_filter=f"-{word}-seed") for table in made]
            drawn = [replace(p, name=f"{p.name}_{word}", heading=f"{p.heading}, {cohort}") for p in drawn]
        tables += made
        pictures += drawn
    leakage, leaked = leakage_note(pipelines)
    registered, deviations = compared_with_registration(study, pipelines, folder.parent)
    warnings = [*([leakage] if leaked else []), *failures(pipelines), *collapses(pipelines), *deviations]
    report = Report(
        title=f"{study.title} on {' and '.join(cohorts)}",
        question=study.question,
        verdicts=_spoken(verdicts),
        tables=tables,
        pictures=[*pictures, *_training(pipelines)],
        runs=run_table(pipelines),
        notes=[
            registered or "Not registered before it was run: its contrasts and rule are those of this version.",
            f"The paper says: {study.paper_says}",
            study.criterion,
            *([] if leaked else [leakage]),
        ],
        warnings=warnings,
        facts={
            "the study": {"unit of analysis": study.unit_of_analysis, "cost": study.cost},
            **_estimate(study, pipelines, folder.parent),
            **environment_of(pipelines),
        },
    )
    return StudyReport(write_report(report, folder), tuple(tables), verdicts, tuple(warnings))


def _spoken(verdicts: dict[str, Verdict]) -> list[str]:
    """The verdict of each cohort; its name only where there are several."""
    return [str(v) if len(verdicts) == 1 else f"{cohort}. {v}" for cohort, v in verdicts.items()]


def _of_cohort(
    study: Study, pipelines: Sequence[Pipeline], rows: pd.DataFrame, verdict: Verdict
) -> tuple[list[Table], list[Picture]]:
    """Tables and pictures of one cohort."""
    methods = list(dict.fromkeys(pipeline.run.method for pipeline in pipelines))
    title = f"{study.title} on {rows['cohort'].iloc[0]}"
    contrasts = [contrast_table(verdict, f"{title}: what the verdict rests on")]
    ceiling = _ceiling(pipelines[0].run.store)
    tables = [replace(one, metric_card=(*one.metric_card, *ceiling)) for one in _tables(study, rows, methods, title)]
    return [*tables, *contrasts], _pictures(pipelines, rows, methods)


def _ceiling(store: Store) -> list[str]:
    """The greatest DSC that the stored grid allows, which no method can exceed; nothing for a store without it."""
    known = {name: 100 * dice for name, dice in store.dice_ceiling.items() if not math.isnan(dice)}
    if not known:
        return []
    words = ", ".join(f"{name} {percent:.1f}" for name, percent in known.items())
    return [f"The highest DSC (%) that the stored grid allows, mean over the scans of the cohort: {words}"]


def _estimate(study: Study, pipelines: Sequence[Pipeline], out: Path) -> dict[str, dict[str, str]]:
    """Every plan that was made of this study, against what it took."""
    stages = {stage.name: stage for pipeline in pipelines for stage in pipeline.stages}
    said = {name: against_actual(out / "plans" / f"{name}.json", stages) for name in (study.name, "all")}
    return {f"plan of {name} against actual": lines for name, lines in said.items() if lines}


def _tables(study: Study, rows: pd.DataFrame, methods: list[str], title: str) -> list[Table]:
    """The tables of one cohort."""
    reference = study.reference if study.reference in methods else methods[-1]
    primary = [c.baseline for c in study.contrasts if c.primary and c.method == reference and c.baseline in methods]
    if rows["labelled_patients"].nunique() > 1:
        return [learning_table(rows, reference=reference, title=title, primary=primary)]
    few_runs = rows.groupby("method")["seed"].nunique().min() < 3  # then the slices, as in the paper, stand below
    unit: Literal["patient", "both"] = "both" if few_runs else "patient"
    tables = [comparison_table(rows, reference=reference, title=title, unit=unit, primary=primary)]
    beside = beside_paper(rows, cohort=rows["cohort"].iloc[0], table=study.paper_table)
    return tables if beside is None else [*tables, beside]


def _pictures(pipelines: Sequence[Pipeline], rows: pd.DataFrame, methods: list[str]) -> list[Picture]:
    """The pictures of one cohort."""
    pictures = []
    most = rows["labelled_patients"].max()
    if rows["labelled_patients"].nunique() > 1:
        caption = (
            "Average DSC by number of labelled patients (the paper's Figure 5): means of runs, a dot for every run."
        )
        pictures.append(Picture("learning", "Learning curve", caption, draw_learning_curve(rows, methods)))
        rows = rows[rows["labelled_patients"] == most]
        pipelines = [pipeline for pipeline in pipelines if pipeline.labelled_patients == most]
        methods = [method for method in methods if method in set(rows["method"])]
    pictures += [
        Picture(
            "patients",
            "Patients",
            "Each dot is the mean over the structures of one test patient in one training run; grey lines join a "
            "patient's means over runs; bars are the averages of the table.",
            draw_patients(rows, methods),
        ),
        Picture(
            "overlays",
            "Overlays",
            "Test slices with the reference and each method's first run as contours (the paper's Figure 3).",
            draw_overlays(overlays_of(pipelines)),
        ),
    ]
    if maps := uncertainty_of(pipelines):
        caption = "Test slices and the teacher's uncertainty of each pixel after pre-training (the paper's Figure 2)."
        pictures.append(Picture("uncertainty", "Uncertainty", caption, draw_uncertainty(maps)))
    return pictures


def _training(pipelines: Sequence[Pipeline]) -> list[Picture]:
    """The curves of all trainings."""
    pictures = []
    if pretraining := curves_of(pipelines, "pretrain"):
        names = {
            "loss": "loss, each method's own",
            "loss_global": "global loss",
            "loss_pixel": "local loss, Eq. 6",
            "cross_entropy_pixel": "pixel cross-entropy",
            "uncertainty": "mean uncertainty U",
        }
        caption = (
            "Pre-training, one line for each run; the losses of different methods cannot be compared. Our local loss "
            "can fall while the network collapses; the pixel cross-entropy would then rise."
        )
        pictures.append(
            Picture("pretraining", "Pre-training", caption, draw_curves(pretraining, names, "Pre-training"))
        )
    names = {"loss": "training loss", "validation_dice": "validation Dice"}
    pictures.append(
        Picture(
            "finetuning",
            "Fine-tuning",
            "Fine-tuning, one line for each run; the best validation Dice is what is tested.",
            draw_curves(curves_of(pipelines, "finetune"), names, "Fine-tuning"),
        )
    )
    return pictures
