"""A study's report from its finished stages: its tables, its pictures and what a reader must know of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pandas as pd

from experiments.report.collect import (
    by_cohort,
    cell_table,
    collapses,
    curves_of,
    environment_of,
    failures,
    finished,
    leakage_note,
    overlays_of,
    rows_of,
    uncertainty_of,
)
from experiments.report.figures import draw_curves, draw_overlays, draw_patients, draw_uncertainty
from experiments.report.learning_curve import draw_learning_curve
from experiments.report.page import Picture, write_report
from experiments.report.statistics_figures import draw_ranks
from experiments.runner.plan import against_actual
from experiments.runner.runs import Chain, one_word
from pixelglobal.statistics.ranking import rank_methods
from pixelglobal.tables.averages import mean_points
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.tables.learning_curve import learning_table
from pixelglobal.tables.paper import beside_paper
from pixelglobal.tables.table import Table


@dataclass(frozen=True)
class StudyReport:
    """What was written."""

    page: Path
    tables: tuple[Table, ...]


def report_study(study: ModuleType, chains: Sequence[Chain], folder: Path) -> StudyReport:
    """Write `folder/rows.parquet`, tables, figures and `folder/report.html` of the cells that are finished."""
    rows = rows_of(chains)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "rows.parquet", index=False)
    tables: list[Table] = []
    pictures: list[Picture] = []
    cohorts = by_cohort(finished(chains))
    for cohort, own in cohorts.items():
        of_cohort = rows[rows["cohort"] == cohort]
        methods = list(dict.fromkeys(chain.cell.method for chain in own))
        made = _tables(study, of_cohort, methods, f"{study.TITLE} on {cohort}")
        drawn = _pictures(own, of_cohort, methods)
        if len(cohorts) > 1:
            word = one_word(cohort)
            made = [replace(table, cells=f"-{word}-seed") for table in made]
            drawn = [replace(p, name=f"{p.name}_{word}", heading=f"{p.heading}, {cohort}") for p in drawn]
        tables += made
        pictures += drawn
    pictures += _training(chains)
    leakage, leaked = leakage_note(chains)
    page = write_report(
        folder,
        title=f"{study.TITLE} on {' and '.join(cohorts)}",
        question=study.QUESTION,
        tables=tables,
        pictures=pictures,
        cells=cell_table(chains),
        notes=[*claims(study), *([] if leaked else [leakage])],
        warnings=[*([leakage] if leaked else []), *failures(chains), *collapses(chains)],
        facts={**_estimate(study, chains, folder.parent), **environment_of(chains)},
    )
    return StudyReport(page, tuple(tables))


def claims(study: ModuleType) -> list[str]:
    """What the paper says on a study's question, and what would count as not reproduced: from the head of its file."""
    paragraphs = re.split(r"\n(?=\S)", study.__doc__ or "")
    wanted = [p for p in paragraphs if p.startswith(("The paper says:", "Not "))]
    return [" ".join(p.split()) for p in wanted]


def _estimate(study: ModuleType, chains: Sequence[Chain], out: Path) -> dict[str, dict[str, str]]:
    """Every plan that was made of this study, against what it took."""
    stages = {stage.name: stage for chain in chains for stage in chain.stages}
    said = {name: against_actual(out / "plans" / f"{name}.json", stages) for name in (study.NAME, "all")}
    return {f"plan of {name} against actual": lines for name, lines in said.items() if lines}


def _tables(study: ModuleType, rows: pd.DataFrame, methods: list[str], title: str) -> list[Table]:
    """The tables of one cohort."""
    reference = study.REFERENCE if study.REFERENCE in methods else methods[-1]
    if rows["labelled_patients"].nunique() > 1:
        return [learning_table(rows, reference=reference, title=title)]
    tables = [comparison_table(rows, reference=reference, title=title)]
    if len(methods) > 1 and rows.groupby("method")["seed"].nunique().min() >= 3:
        claim = f"{title}: a claim about the methods"
        tables.append(comparison_table(rows, reference=reference, title=claim, unit="patient", claim="method"))
    beside = beside_paper(rows, cohort=rows["cohort"].iloc[0], table=getattr(study, "PAPER_TABLE", "1"))
    return tables if beside is None else [*tables, beside]


def _ranks(rows: pd.DataFrame, methods: list[str]) -> list[Picture]:
    """Mean ranks over structures, of three methods or more."""
    points = mean_points(rows, methods)
    if len(methods) < 3 or len(points) < 2:
        return []
    caption = (
        "Methods ranked on every structure by mean DSC over patients and runs (Friedman with Nemenyi's critical "
        "difference); a thick bar joins methods whose ranks cannot be told apart."
    )
    return [Picture("ranks", "Ranks", caption, draw_ranks(rank_methods(points.to_numpy()), methods))]


def _pictures(chains: Sequence[Chain], rows: pd.DataFrame, methods: list[str]) -> list[Picture]:
    """The pictures of one cohort."""
    pictures = []
    most = rows["labelled_patients"].max()
    if rows["labelled_patients"].nunique() > 1:
        caption = (
            "Average DSC by number of labelled patients (the paper's Figure 5): means over test patients with their "
            "95 % intervals, a dot for every run."
        )
        pictures.append(Picture("learning", "Learning curve", caption, draw_learning_curve(rows, methods)))
        rows = rows[rows["labelled_patients"] == most]
        chains = [chain for chain in chains if chain.labelled_patients == most]
        methods = [method for method in methods if method in set(rows["method"])]
    pictures += [
        Picture(
            "patients",
            "Patients",
            "Each dot is one test patient in one training run; grey lines join a patient's means; bars are the means "
            "of methods.",
            draw_patients(rows, methods),
        ),
        *_ranks(rows, methods),
        Picture(
            "overlays",
            "Overlays",
            "Test slices with the reference and each method's first run as contours (the paper's Figure 3).",
            draw_overlays(overlays_of(chains)),
        ),
    ]
    if maps := uncertainty_of(chains):
        caption = "Test slices and the teacher's uncertainty of each pixel after pre-training (the paper's Figure 2)."
        pictures.append(Picture("uncertainty", "Uncertainty", caption, draw_uncertainty(maps)))
    return pictures


def _training(chains: Sequence[Chain]) -> list[Picture]:
    """The curves of all trainings."""
    pictures = []
    if pretraining := curves_of(chains, "pretrain"):
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
            draw_curves(curves_of(chains, "finetune"), names, "Fine-tuning"),
        )
    )
    return pictures
