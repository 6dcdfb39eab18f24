"""For a paper: a paragraph of methods with the numbers of these runs, a checklist, a glossary, and an RO-Crate.

The checklist has the items of CLAIM (Mongan et al. 2020) and of Metrics Reloaded (Maier-Hein et al. 2024) that the
folders of the runs can answer; what only authors know is named as open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.report.collect import finished
from experiments.report.palette import method_words
from experiments.runner.pipeline import Pipeline
from experiments.studies.study import Study
from pixelglobal.files import write_file
from pixelglobal.version import __version__

OPEN = "to be said by the authors"
GLOSSARY = {
    "DSC": "Dice similarity coefficient, twice the intersection over the sum of both sizes, in %.",
    "HD, HD95": "Hausdorff distance of two contours in mm, and its 95th percentile.",
    "SDSC": "Surface Dice: the share of both contours that is within a tolerance of the other, in %.",
    "training run": "One pre-training and fine-tuning with one seed; methods with the same seed share what is random.",
    "gain": "Difference of two methods in DSC points, positive if the first is better.",
    "95 % interval over patients": "Where the gain of these training runs would lie on other patients.",
    "95 % interval over runs and patients": "Where the gain of methods, trained again, would lie on other patients.",
    "corrected p": "p after Holm's correction within its family of tests.",
    "missed": "A structure that the reference has and the prediction does not; its DSC is 0.",
    "U": "Uncertainty of the teacher at a pixel: entropy of its mean code under dropout, from 0 to 1.",
    "GO, GP, GPC": "Our method with the global loss alone, with the pixel loss, and with the context stabiliser.",
}
FILES = {".html": "text/html", ".json": "application/json", ".csv": "text/csv", ".md": "text/markdown", ".pdf":
         "application/pdf", ".png": "image/png", ".svg": "image/svg+xml", ".tex": "application/x-tex", ".parquet":
         "application/vnd.apache.parquet"}  # fmt: skip


def methods_paragraph(study: Study, pipelines: Sequence[Pipeline]) -> str:
    """What was done, in the sentences of a paper."""
    done = finished(pipelines)
    config, store = done[0].run.config, done[0].run.store
    seeds = sorted({pipeline.run.config.seed for pipeline in done})
    names = [method_words(method) for method in dict.fromkeys(pipeline.run.method for pipeline in done)]
    cohorts = {pipeline.run.cohort: pipeline.run.store for pipeline in done}
    labelled = sorted({pipeline.labelled_patients for pipeline in done})
    sentences = [
        f"We compared {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else f"We trained {names[0]}",
        *(_of_cohort(cohort, of_cohort) for cohort, of_cohort in cohorts.items()),
        f"Slices had {store.image_size} x {store.image_size} pixels, with intensities clipped to {store.hu_min:g} to "
        f"{store.hu_max:g} HU",
        f"Each method was pre-trained for {config.pretrain.epochs} epochs with batches of {config.pretrain.batch_size} "
        f"slices and fine-tuned for up to {config.finetune.epochs} epochs on the labels of "
        f"{' or '.join(map(str, labelled))} patients, with {len(seeds)} random seeds",
        "The model with the best Dice on the validation patients was tested on whole scans at their original spacing",
        "The primary endpoint was the Dice coefficient, averaged over patients and then over structures. Methods were "
        "compared by a multi-reader multi-case analysis with training runs as readers and patients as cases, with "
        "Holm's correction over the primary contrasts",
        f"All experiments used the study {study.name} of pixelglobal {__version__}",
    ]
    return ". ".join(sentences) + "."


def _of_cohort(cohort: str, store: Any) -> str:
    patients = store.cases.set_index("case")["patient"]
    train, validation, test = (patients.reindex(list(c)).nunique() for c in (
        store.splits.train, store.splits.validation, store.splits.test))  # fmt: skip
    return (
        f"The cohort {cohort} has {train} training, {validation} validation and {test} test patients, with "
        f"{len(store.structures)} structures: {', '.join(store.structures)}"
    )


def checklist(study: Study, pipelines: Sequence[Pipeline], registered: str, leakage: str) -> dict[str, str]:
    """{item of CLAIM or Metrics Reloaded: what these runs answer}."""
    done = finished(pipelines)
    place = json.loads((done[0].evaluate.folder / "environment.json").read_text())
    seeds = sorted({pipeline.run.config.seed for pipeline in done})
    return {
        "CLAIM 3, question": study.question,
        "CLAIM 5, prospective or retrospective": OPEN,
        "CLAIM 7, source of data": ", ".join(dict.fromkeys(pipeline.run.cohort for pipeline in done)),
        "CLAIM 9, preparation of images": f"slices of {done[0].run.store.image_size} pixels, store of `pixelglobal "
        "prepare`",
        "CLAIM 14, reference standard": f"contours of the cohort; who drew them: {OPEN}",
        "CLAIM 19, sample size": registered or "not registered before the runs; `plan` prints what a study can show",
        "CLAIM 20, 21, partitions": f"by patient. {leakage}",
        "CLAIM 22, model": f"U-Net with {done[0].run.config.network.encoder} encoder",
        "CLAIM 23, software": f"pixelglobal {__version__}, commit {str(place['commit'])[:10]}, "
        + ", ".join(f"{name} {version}" for name, version in list(place.get("packages", {}).items())[1:4]),
        "CLAIM 25, training": f"settings of every run are on this page; seeds {', '.join(map(str, seeds))}",
        "CLAIM 27, choice of the final model": "best validation Dice; test patients are used once",
        "CLAIM 28, metrics": "DSC, HD, HD95 and surface Dice of whole scans",
        "CLAIM 29, statistics": f"{study.unit_of_analysis} {study.criterion}",
        "CLAIM 32, external test": OPEN,
        "CLAIM 37, failures": "missed structures are counted in the table, and their cases are in the case viewer",
        "Metrics Reloaded, category": "semantic segmentation of organs or tumours, per structure",
        "Metrics Reloaded, overlap and boundary": "DSC with HD95 or surface Dice; HD as the paper reports it",
        "Metrics Reloaded, empty masks": "a missed structure has DSC 0 and the scan's diagonal as its distance; "
        "structures that nobody contoured are in no mean",
        "Metrics Reloaded, aggregation": "over patients, then over structures; intervals over patients and over runs",
        "Metrics Reloaded, hierarchy of data": "scans of one patient are averaged first; slices are not independent",
    }


def write_ro_crate(study: Study, pipelines: Sequence[Pipeline], folder: Path, verdicts: Mapping[str, str]) -> Path:
    """Write `ro-crate-metadata.json` (RO-Crate 1.1) of a report's folder; returns its path."""
    done = finished(pipelines)
    place = json.loads((done[0].evaluate.folder / "environment.json").read_text())
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in FILES)
    files = [path for path in files if path.name != "ro-crate-metadata.json"]
    names = [path.relative_to(folder).as_posix() for path in files]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said = ". ".join(f"{cohort}: {sentence}" for cohort, sentence in verdicts.items())
    graph: list[dict[str, Any]] = [
        {"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": {"@id": "./"},
         "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}},
        {"@id": "./", "@type": "Dataset", "name": study.title, "description": f"{study.question} {said}",
         "datePublished": now, "license": OPEN, "hasPart": [{"@id": name} for name in names],
         "mentions": {"@id": "#runs"}},
        {"@id": "#pixelglobal", "@type": "SoftwareApplication", "name": "pixelglobal", "version": __version__,
         "identifier": str(place["commit"])},
        {"@id": "#runs", "@type": "CreateAction", "name": f"{len(done)} training runs of {study.name}", "endTime": now,
         "instrument": {"@id": "#pixelglobal"}, "result": [{"@id": name} for name in names],
         "object": [{"@id": f"#run-{pipeline.run.name}"} for pipeline in done]},
        *({"@id": f"#run-{pipeline.run.name}", "@type": "CreateAction", "name": pipeline.run.name,
           "identifier": [stage.name for stage in pipeline.stages]} for pipeline in done),
        *({"@id": name, "@type": "File", "name": path.name, "encodingFormat": FILES[path.suffix],
           "contentSize": str(path.stat().st_size)} for name, path in zip(names, files, strict=True)),
    ]  # fmt: skip
    crate = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    return write_file(folder / "ro-crate-metadata.json", json.dumps(crate, indent=1))
