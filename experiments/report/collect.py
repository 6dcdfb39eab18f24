"""What a study's report shows, read from the finished stages: rows, curves, example slices, costs, leakage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from experiments.report.figures import Curve, Overlay
from experiments.report.uncertainty import UncertaintyPicture
from experiments.runner.pipeline import Pipeline
from experiments.runner.run_list import flat_settings
from experiments.studies.verdict import average_of_run
from pixelglobal.data.volumes import read_labels
from pixelglobal.devices import default_device
from pixelglobal.evaluation.uncertainty_maps import uncertainty_maps
from pixelglobal.methods.pixel_global import PixelGlobal, PixelGlobalSettings
from pixelglobal.training.collapse_watch import collapsed_heads
from pixelglobal.training.runs import read_metrics


def finished(pipelines: Sequence[Pipeline]) -> list[Pipeline]:
    """The pipelines whose evaluation is there."""
    return [pipeline for pipeline in pipelines if pipeline.evaluate.is_complete]


def rows_of(pipelines: Sequence[Pipeline]) -> pd.DataFrame:
    """The rows of all finished runs, with the study's names for method and seed."""
    parts = []
    for pipeline in finished(pipelines):
        run = pipeline.run
        names = {"study": run.study, "method": run.method, "seed": run.config.seed, "cohort": run.cohort}
        facts = {"labelled_patients": pipeline.labelled_patients, "pretraining_seed": run.config.pretraining_seed}
        parts.append(pd.read_parquet(pipeline.rows).assign(**names, **facts))
    if not parts:
        raise ValueError("no run of this study is finished; run it first, or see why its runs failed with `status`")
    return pd.concat(parts, ignore_index=True)


def by_cohort(pipelines: Sequence[Pipeline]) -> dict[str, list[Pipeline]]:
    """The pipelines of each cohort, in the order of the study."""
    groups: dict[str, list[Pipeline]] = {}
    for pipeline in pipelines:
        groups.setdefault(pipeline.run.cohort, []).append(pipeline)
    return groups


def curves_of(pipelines: Sequence[Pipeline], kind: str) -> list[Curve]:
    """The training logs of one kind of stage, "pretrain" or "finetune"."""
    seen: dict[str, Curve] = {}  # runs share stages
    for pipeline in pipelines:
        stage = getattr(pipeline, kind)
        if stage is not None and (stage.folder / "metrics.jsonl").is_file():
            run = pipeline.run
            seen.setdefault(stage.name, Curve(run.method, run.config.seed, read_metrics(stage.folder)))
    return list(seen.values())


def overlays_of(pipelines: Sequence[Pipeline], count: int = 3) -> list[Overlay]:
    """For a few test cases of one cohort the slice with most structures: the reference, and each method's first run."""
    firsts: dict[str, Pipeline] = {}
    for pipeline in finished(pipelines):
        firsts.setdefault(pipeline.run.method, pipeline)
    any_pipeline = next(iter(firsts.values()))
    store = any_pipeline.run.tested
    cases = sorted(
        path.name.removesuffix(".nii.gz") for path in (any_pipeline.evaluate.folder / "predictions").glob("*.gz")
    )
    overlays = []
    for case in [cases[i] for i in np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)]:
        reference, spacing_mm, _ = read_labels(store.label_path(case))
        variety = [len(np.unique(s)) * 1e6 + np.count_nonzero(s) for s in reference]
        index = int(np.argmax(variety))
        predictions = {
            method: read_labels(pipeline.evaluate.folder / "predictions" / f"{case}.nii.gz")[0][index]
            for method, pipeline in firsts.items()
        }
        image = store.paste_back_image(case, store.read_case(case).image_hu[index].numpy())
        overlays.append(
            Overlay(case, index, image, spacing_mm[1] / spacing_mm[2], reference[index], predictions, store.structures)
        )
    return overlays


def uncertainty_of(pipelines: Sequence[Pipeline], count: int = 4) -> list[UncertaintyPicture]:
    """Teacher uncertainty of the middle slices of a few test cases, from the first run that has a pixel head."""
    for pipeline in finished(pipelines):
        config = pipeline.run.config
        if pipeline.pretrain is None or config.pretrain.method != PixelGlobal.name:
            continue
        if not cast(PixelGlobalSettings, config.methods[PixelGlobal.name]).pixel_matching:
            continue
        pictures, store = [], pipeline.run.tested
        for case in store.splits.test[:count]:
            whole = store.read_case(case)
            index = int(whole.label.flatten(1).count_nonzero(1).argmax())
            image = whole.image_hu[index : index + 1]
            u = uncertainty_maps(pipeline.pretrain.folder / "model", image, default_device())[0].numpy()
            labels = whole.label[index].numpy()
            pictures.append(UncertaintyPicture(case, index, image[0].numpy(), u, labels, pipeline.run.name))
        return pictures
    return []


def run_table(pipelines: Sequence[Pipeline]) -> list[dict[str, Any]]:
    """One flat record for each run: what it is, its state and score, commit and stages, and what settings differ."""
    records = []
    settings = [flat_settings(pipeline.run.config) for pipeline in pipelines]
    names = dict.fromkeys(name for of_run in settings for name in of_run if name != "seed")
    differ = [name for name in names if len({str(of_run.get(name)) for of_run in settings}) > 1]
    for pipeline, of_run in zip(pipelines, settings, strict=True):
        config, done = pipeline.run.config, pipeline.evaluate.is_complete
        record: dict[str, Any] = {
            "run": pipeline.run.name,
            "method": pipeline.run.method,
            "seed": config.seed,
            "state": "done" if done else "failed" if pipeline.error() else "missing",
            "cohort": pipeline.run.cohort,
            "labelled patients": pipeline.labelled_patients,
            "mean DSC (%)": "",
        }
        if done:
            rows = pd.read_parquet(pipeline.rows)
            commit = json.loads((pipeline.evaluate.folder / "environment.json").read_text())["commit"]
            record["commit"] = commit if commit.startswith("source-") else commit[:7]
            record["mean DSC (%)"] = f"{average_of_run(rows):.2f}"
        for stage in (pipeline.pretrain, pipeline.finetune, pipeline.evaluate):
            if stage is not None:
                record[f"{stage.kind} (s)"] = f"{stage.seconds:.0f}" if stage.is_complete else ""
                record[f"{stage.kind} folder"] = stage.name
        pretraining = tuple(f"{section}." for section in ("pretrain", *config.methods))
        used = [name for name in differ if pipeline.pretrain is not None or not name.startswith(pretraining)]
        record |= {name: str(of_run.get(name, "")) for name in used}
        records.append(record)
    columns = list(dict.fromkeys(key for record in records for key in record))
    return [{column: record.get(column, "") for column in columns} for record in records]


def leakage_note(pipelines: Sequence[Pipeline]) -> tuple[str, bool]:
    """A sentence on whether any test scan, by its voxels, was seen in training for its own result; and whether so.

    A scan that is tested in one cohort and trained on in another harms no result here, since every run's models see
    one cohort; it is named all the same, for whoever goes on with these models.
    """
    tested: dict[str, set[str]] = {}  # the voxels of a scan to cohorts
    seen: dict[str, set[str]] = {}
    leaked = set()
    for pipeline in finished(pipelines):
        run, cases = pipeline.run, pipeline.run.tested.cases
        test_scans = set(cases[cases["case"].isin(run.tested.splits.test)]["sha256"])
        facts = json.loads((pipeline.finetune.folder / "model" / "model.json").read_text())
        seen_scans = {sha: case for case, sha in facts["cases_seen"].items()}
        leaked |= {f"{seen_scans[sha]} in {run.name}" for sha in test_scans & seen_scans.keys()}
        for cohorts, scans in ((tested, test_scans), (seen, seen_scans)):
            for sha in scans:
                cohorts.setdefault(sha, set()).add(run.cohort)
    shared = {
        f"{sha[:8]} (tested in {a}, trained on in {b})"
        for sha in tested.keys() & seen.keys()
        for a in tested[sha]
        for b in seen[sha] - {a}
    }
    if leaked:
        names = ", ".join(sorted(leaked))
        return f"LEAKAGE: test scans were seen in training: {names}. These results must not be used.", True
    note = (
        f"No leakage: none of the {len(tested)} test scans, compared by the content of their voxels, was seen in the "
        f"pre-training, fine-tuning or validation of the models that it tests ({len(seen)} scans)."
    )
    if shared:
        note += f" Scans that cohorts share, by the first digits of their hash: {', '.join(sorted(shared))}."
    return note, False


def failures(pipelines: Sequence[Pipeline]) -> list[str]:
    """One sentence for each run that has no result."""
    notes = []
    for pipeline in pipelines:
        if not pipeline.evaluate.is_complete:
            error = (pipeline.error() or "it has not run").strip().splitlines()[-1]
            notes.append(f"{pipeline.run.name} has no result: {error}")
    return notes


def collapses(pipelines: Sequence[Pipeline]) -> list[str]:
    """One sentence for each pre-training that ended collapsed, as `pretrain.on_collapse=warn` allows."""
    notes = {}
    for pipeline in pipelines:
        stage = pipeline.pretrain  # runs share stages: the first names it
        if stage is not None and stage.name not in notes and (heads := collapsed_heads(read_metrics(stage.folder))):
            notes[stage.name] = (
                f"The pre-training of {pipeline.run.name} ended collapsed ({' and '.join(heads)} head; {stage.name}): "
                "its codes tell hardly any inputs apart"
            )
    return list(notes.values())


def environment_of(pipelines: Sequence[Pipeline]) -> dict[str, Any]:
    """Where the first finished run ran, and its resolved settings."""
    pipeline = finished(pipelines)[0]
    place = json.loads((pipeline.evaluate.folder / "environment.json").read_text())
    return {"environment": place, "settings of the first run": pipeline.run.config.model_dump(mode="json")}
