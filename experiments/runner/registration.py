"""Registration of a study before anything is trained: what will be compared, how, and what will decide.

    OUT/registrations/STUDY.json     the registration, with the SHA-256 of its content

The file freezes contrasts, endpoint, correction, rule, seeds and the address of every evaluation. An address is a hash
of settings, training data and test patients, so a run that was not done as registered has another one. A report then
says "as registered", or lists each deviation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import FOLDER
from experiments.runner.pipeline import Pipeline
from experiments.studies.study import Study
from pixelglobal.environment import environment
from pixelglobal.files import write_json

ENDPOINT = (
    "average DSC of whole volumes: for each run the mean over structures, of those that its labelled patients have, of "
    "means over test patients; runs that share a pre-training are averaged before a test"
)
CORRECTION = "Holm over the primary contrasts, and over the other contrasts as a family of their own"
SHOWN = 5  # runs that a deviation names


def registration_of(study: Study, out: Path) -> Path:
    """The place of a study's registration in an OUT folder."""
    return out / "registrations" / f"{study.name}.json"


def register(study: Study, pipelines: Sequence[Pipeline], out: Path) -> Path:
    """Write the registration of a study, and return its path; the same again leaves it as it is.

    Raises ValueError if the study is registered otherwise already, or if some of its stages are computed: what is
    registered afterwards was not registered.
    """
    path = registration_of(study, out)
    plan = _plan(study, pipelines)
    if path.is_file():
        if _read(path)["plan"] == plan:
            return path
        raise ValueError(
            f"{path} registers {study.name} with other runs or rules; expected the same words as on "
            f"{_read(path)['date']}. Give them, or another --out; a registration is never rewritten"
        )
    stages = {stage.name: stage for pipeline in pipelines for stage in pipeline.stages}
    if done := sorted(name for name, stage in stages.items() if stage.is_complete):
        raise ValueError(
            f"{len(done)} of the {len(stages)} stages of {study.name} are computed in {out} already, the first: "
            f"{done[0]}. A study is registered before anything is trained: give another --out"
        )
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": environment([FOLDER])["commit"]}
    return write_json(path, {**record, "plan": plan, "sha256": _digest({**record, "plan": plan})})


def compared_with_registration(study: Study, pipelines: Sequence[Pipeline], out: Path) -> tuple[str, list[str]]:
    """A sentence on whether a study was done as registered, and its deviations, each a sentence.

    pipelines: the runs of the report. Nothing is said ("", []) of a study without a registration.
    """
    path = registration_of(study, out)
    if not path.is_file():
        return "", []
    record = _read(path)
    then, now = record["plan"], _plan(study, pipelines)
    deviations = []
    if record["sha256"] != _digest({key: value for key, value in record.items() if key != "sha256"}):
        deviations.append(f"{path.name} was changed after it was written: its content is not what its digest says")
    deviations += [
        f"The {what} is not the registered one: {_short(then[what])} then, {_short(now[what])} now"
        for what in ("contrasts", "endpoint", "correction", "rule")
        if then[what] != now[what]
    ]
    deviations += _of_runs(then["runs"], pipelines, record["date"])
    said = f"registered on {record['date']} (sha256 {record['sha256'][:12]})"
    return (f"Done as {said}." if not deviations else f"Not done as {said}."), deviations


def _of_runs(registered: dict[str, str], pipelines: Sequence[Pipeline], date: str) -> list[str]:
    """Deviations of the runs: other settings or patients, left out, added, and trained too early."""
    done = {pipeline.run.name: pipeline for pipeline in pipelines}
    other = [name for name, address in registered.items() if name in done and done[name].evaluate.name != address]
    missing = [name for name in registered if name not in done or not done[name].evaluate.is_complete]
    added = [name for name in done if name not in registered]
    early = [name for name, pipeline in done.items() if _began_before(pipeline, date)]
    sentences = (
        (other, "run with other settings, training data or test patients than registered"),
        (missing, "registered and without a result"),
        (added, "not registered"),
        (early, "begun before the registration"),
    )
    return [
        f"{len(names)} runs are {what}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        for names, what in sentences
        if names
    ]


def _began_before(pipeline: Pipeline, date: str) -> bool:
    """Whether a stage of the run was begun before the date: its facts are written first."""
    begun = [stage.folder / "stage.json" for stage in pipeline.stages]
    registered = datetime.fromisoformat(date).timestamp()
    return any(path.is_file() and path.stat().st_mtime < registered for path in begun)


def _plan(study: Study, pipelines: Sequence[Pipeline]) -> dict[str, Any]:
    methods = list(dict.fromkeys(pipeline.run.method for pipeline in pipelines))
    plan = {
        "study": study.name,
        "question": study.question,
        "contrasts": [asdict(contrast) for contrast in study.contrasts_among(methods)],
        "endpoint": ENDPOINT,
        "correction": CORRECTION,
        "rule": {**asdict(study.rule), "words": study.criterion},
        "seeds": sorted({pipeline.run.config.seed for pipeline in pipelines}),
        "runs": {pipeline.run.name: pipeline.evaluate.name for pipeline in pipelines},
    }
    return json.loads(json.dumps(plan))  # as it is read again


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        _ = record["plan"]["runs"], record["date"], record["sha256"]
        return record
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise ValueError(
            f"{path} cannot be read as a registration; restore it from a copy, or move it away if the study is not to "
            "count as registered"
        ) from None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{c['method']} - {c['baseline']}" for c in value)
    return value["words"] if isinstance(value, dict) else str(value)
