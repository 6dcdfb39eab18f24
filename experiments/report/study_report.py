"""A study's report from its finished stages: its tables, its pictures and what a reader must know of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.report.behind import runs_behind
from experiments.report.calibration import calibration_pictures, calibration_tables
from experiments.report.case_viewer import viewer_data
from experiments.report.cohorts import cohorts_picture, cohorts_table
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
from experiments.report.curves import FINETUNING, PRETRAINING, curves_data, draw_curves
from experiments.report.figures import DOUBLE_CM, SINGLE_CM, draw_overlays
from experiments.report.from_rows import (
    CohortRows,
    behind_rows,
    cohorts_of,
    compact_tables,
    lead_pictures,
    named_for,
    other_tables,
    patients_picture,
    verdict_lines,
)
from experiments.report.page import Picture, Report, write_report
from experiments.report.palette import Look, looks
from experiments.report.provenance import GLOSSARY, checklist, methods_paragraph, write_ro_crate
from experiments.report.strip import strip_of
from experiments.report.uncertainty import draw_uncertainty
from experiments.report.verdict_words import badges
from experiments.runner.pipeline import Pipeline
from experiments.runner.plan import against_actual
from experiments.runner.registration import compared_with_registration
from experiments.runner.run_list import write_run_list
from experiments.studies.study import Study, one_word
from experiments.studies.verdict import Verdict
from pixelglobal.data.store import Store
from pixelglobal.files import write_file, write_json
from pixelglobal.tables.results_table import ResultsTable
from pixelglobal.tables.table import Table

PRETRAINING_CAPTION = (
    "Pre-training: each method's mean over its runs, with their range as a band. The losses of different methods "
    "cannot be compared. Our local loss can fall while the network collapses; the pixel cross-entropy would then rise "
    "and the information of the head fall."
)
FINETUNING_CAPTION = (
    "Fine-tuning: each method's mean over its runs, with their range as a band. A star is the epoch with the best "
    "validation Dice of a run, which is the one that is tested."
)


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
    of_cohorts = by_cohort(finished(pipelines))
    cohorts = cohorts_of(study, rows)
    verdicts = {one.cohort: one.verdict for one in cohorts}
    write_json(folder / "verdict.json", {"study": study.name, "criterion": study.criterion, "cohorts": {
        cohort: verdict.to_dict() for cohort, verdict in verdicts.items()}})  # fmt: skip
    methods = looks(list(dict.fromkeys(pipeline.run.method for pipeline in pipelines)))
    words = {method: look.words for method, look in methods.items()}
    tables: list[Table] = []
    pictures: list[Picture] = []
    for one in cohorts:
        made, several = other_tables(study, one), len(cohorts) > 1
        if several:
            made = [replace(table, run_filter=f"-{one_word(one.cohort)}-seed") for table in made]
        of_cohort = _of_decisive(of_cohorts[one.cohort], one)
        made += calibration_tables(of_cohort, f"Calibration on {one.cohort}")
        tables += made
        pictures += [named_for(picture, one, several) for picture in _pictures(of_cohort, one, methods)]
    results = {one.cohort: _with_ceiling(compact_tables(study, one, words), of_cohorts[one.cohort]) for one in cohorts}
    leakage, leaked = leakage_note(pipelines)
    registered, deviations = compared_with_registration(study, pipelines, folder.parent)
    warnings = [*([leakage] if leaked else []), *failures(pipelines), *collapses(pipelines), *deviations]
    report = Report(
        title=f"{study.title} on {' and '.join(verdicts)}",
        question=study.question,
        verdicts=verdict_lines(study, cohorts),
        badges=badges(study, verdicts, registered),
        strip=strip_of(study, pipelines),
        lead=[*lead_pictures(cohorts, methods), *cohorts_picture(results, methods, study.paper_table)],
        results=results,
        tables=[*cohorts_table(results, study.paper_table), *tables],
        pictures=[*pictures, *_training(pipelines, methods)],
        runs=run_table(pipelines),
        notes=[
            registered or "Not registered before it was run: its contrasts and rule are those of this version.",
            f"The paper says: {study.paper_says}",
            study.criterion,
            *([] if leaked else [leakage]),
        ],
        warnings=warnings,
        facts=_facts(study, pipelines, folder.parent),
        methods=list(methods),
        behind={**behind_rows(cohorts), "runs": runs_behind(pipelines)},
        paper={
            "Methods": methods_paragraph(study, pipelines),
            "Checklist (CLAIM, Metrics Reloaded)": checklist(study, pipelines, registered, leakage),
            "Glossary": GLOSSARY,
        },
        cases=_cases(study, _of_decisive(of_cohorts[cohorts[0].cohort], cohorts[0]), cohorts[0]),
    )
    page = write_report(report, folder)
    write_run_list(study, pipelines, folder.parent)
    write_ro_crate(study, pipelines, folder, {cohort: str(verdict) for cohort, verdict in verdicts.items()})
    return StudyReport(page, tuple(tables), verdicts, tuple(warnings))


def _facts(study: Study, pipelines: Sequence[Pipeline], out: Path) -> dict[str, Any]:
    about = {"unit of analysis": study.unit_of_analysis, "cost": study.cost}
    return {"the study": about, **_estimate(study, pipelines, out), **environment_of(pipelines)}


def _with_ceiling(tables: Sequence[ResultsTable], pipelines: Sequence[Pipeline]) -> list[ResultsTable]:
    """The tables, that of the DSC of scans with the highest value that the grid allows."""
    first, *others = tables
    return [replace(first, card=(*first.card, *_ceiling(pipelines[0].run.store))), *others]


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


def _pictures(pipelines: Sequence[Pipeline], one: CohortRows, methods: Mapping[str, Look]) -> list[Picture]:
    """The pictures of one cohort, of the runs with the fewest labelled patients."""
    pictures = [patients_picture(one, methods)]
    caption = "For print: test slices with the reference and each method's first run (the paper's Figure 3)."
    overlays = draw_overlays(overlays_of(pipelines))
    pictures.append(Picture("overlays", "Overlays", caption, overlays, in_page=False))
    if maps := uncertainty_of(pipelines):
        caption = (
            f"Test slices and the uncertainty U of the teacher of {maps[0].model} after pre-training, inside the body "
            "(the paper's Figure 2), with the reference as contours; last, mean U against the distance from a contour."
        )
        pictures.append(Picture("uncertainty", "Uncertainty", caption, draw_uncertainty(maps)))
    return [*pictures, *calibration_pictures(pipelines, methods)]


def _cases(study: Study, pipelines: Sequence[Pipeline], one: CohortRows) -> dict[str, Any] | None:
    """The case viewer of a cohort, by the gain of the study's first contrast."""
    first = study.contrasts[0]
    return viewer_data(pipelines, one.decisive, first.method, first.baseline)


def _of_decisive(pipelines: Sequence[Pipeline], one: CohortRows) -> list[Pipeline]:
    fewest = one.decisive["labelled_patients"].min()
    return [pipeline for pipeline in pipelines if pipeline.labelled_patients == fewest]


def _training(pipelines: Sequence[Pipeline], methods: Mapping[str, Look]) -> list[Picture]:
    """The curves of all trainings."""
    pictures = []
    for kind, name, heading, panels, caption in (
        ("pretrain", "pretraining", "Pre-training", PRETRAINING, PRETRAINING_CAPTION),
        ("finetune", "finetuning", "Fine-tuning", FINETUNING, FINETUNING_CAPTION),
    ):
        curves = curves_of(pipelines, kind)
        data = curves_data(curves, panels)
        if not data["panels"]:
            continue
        wide, narrow = (draw_curves(curves, panels, methods, width_cm=width) for width in (DOUBLE_CM, SINGLE_CM))
        pictures.append(Picture(name, heading, caption, wide, "", narrow, "curves", data))
    return pictures
