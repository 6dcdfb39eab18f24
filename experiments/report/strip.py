"""The facts of a study in one glance: patients, spacing, labels, date, command, commit and device hours."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from experiments.report.collect import finished
from experiments.runner.pipeline import Pipeline
from experiments.runner.plan import against_actual
from experiments.studies.study import Study


def strip_of(study: Study, pipelines: Sequence[Pipeline]) -> dict[str, str]:
    """Short facts by their names; `command` can be run again as it is."""
    done = finished(pipelines)
    stores = {pipeline.run.cohort: pipeline.run.store for pipeline in pipelines}
    place = json.loads((done[0].evaluate.folder / "environment.json").read_text())
    stages = {stage.name: stage for pipeline in pipelines for stage in pipeline.stages if stage.is_complete}
    hours = sum(stage.seconds for stage in stages.values()) / 3600
    newest = max(stage.folder.joinpath("done.json").stat().st_mtime for stage in stages.values())
    facts = {}
    for cohort, store in stores.items():
        split = store.splits
        patients = store.cases.set_index("case")["patient"]
        counts = [patients.reindex(list(cases)).nunique() for cases in (split.train, split.validation, split.test)]
        where = f", {cohort}" if len(stores) > 1 else ""
        facts[f"patients to train, validate, test{where}"] = " / ".join(map(str, counts))
        facts[f"spacing (z, y, x){where}"] = _spacing(pipelines, cohort)
        facts[f"structures{where}"] = str(len(store.structures))
    labelled = sorted({pipeline.labelled_patients for pipeline in pipelines})
    facts["labelled patients used"] = ", ".join(map(str, labelled))
    facts["training runs"] = f"{len(done)} of {len(pipelines)} finished"
    facts["date"] = datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%d")
    commit = str(place["commit"])
    changed = ", with uncommitted changes" if place.get("uncommitted_changes") else ""
    facts["commit"] = (commit if commit.startswith("source-") else commit[:7]) + changed
    facts["device"] = f"{place['device']}, {hours:.2f} hours of stages"
    out = done[0].evaluate.folder.parents[1]
    for name in (study.name, "all"):
        for kind, words in against_actual(out / "plans" / f"{name}.json", stages).items():
            facts[f"plan against actual, {kind}"] = words.rpartition(": ")[2]
    facts["command"] = command_of(study, pipelines)
    return facts


def command_of(study: Study, pipelines: Sequence[Pipeline]) -> str:
    """What runs the study's runs again from its stores."""
    runs = [pipeline.run for pipeline in pipelines]
    given = {
        "--store": dict.fromkeys(str(run.store.root) for run in runs),
        "--pretrain-store": dict.fromkeys(str(store.root) for run in runs for store in run.pool),
        "--test-store": dict.fromkeys(str(run.test_store.root) for run in runs if run.test_store),
    }
    seeds = sorted({pipeline.run.config.seed for pipeline in pipelines})
    methods = list(dict.fromkeys(pipeline.run.method for pipeline in pipelines))
    words = ["python", "-m", "experiments", "run", study.name]
    words += [word for option, roots in given.items() for root in roots for word in (option, root)]
    words += ["--out", str(pipelines[0].evaluate.folder.parents[1]), "--seeds", ",".join(map(str, seeds))]
    if tuple(methods) != study.methods:
        words += ["--methods", ",".join(methods)]
    return shlex.join(words)


def _spacing(pipelines: Sequence[Pipeline], cohort: str) -> str:
    """The median voxel of the test scans, in mm."""
    import pandas as pd

    first = next(p for p in finished(pipelines) if p.run.cohort == cohort)
    rows = pd.read_parquet(first.rows, columns=["case", "spacing_z_mm", "spacing_y_mm", "spacing_x_mm"])
    median = rows.drop_duplicates("case").drop(columns="case").median()
    return " × ".join(f"{value:.3g}" for value in median) + " mm"
