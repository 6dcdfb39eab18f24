"""Every result of an OUT folder as one Parquet data set, and a table that says which runs each result belongs to.

    OUT/rows/evaluate-<address>/rows.parquet    one row for a structure in a slice, or in a whole scan
    OUT/runs.parquet                            one row for a run of a study; many may point to one stage

Rows are written once, when their evaluation is complete, and never changed: an address is all that made them. The
columns are described in docs/reference/rows.md.
"""

from __future__ import annotations

import fcntl
import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.runner.pipeline import Pipeline
from experiments.runner.stages import SCHEMA
from pixelglobal.files import write_file

ANOTHER_FOLDER = (
    "give another --out, where everything is computed anew, or use the version that wrote this folder to read it"
)
RUN_KEYS = ["study", "method", "part", "cohort", "seed"]


def publish(pipelines: Sequence[Pipeline], out: Path) -> None:
    """Put the rows of finished runs into the data set, and the runs into their table."""
    runs = []
    for pipeline in pipelines:
        if not pipeline.evaluate.is_complete:
            continue
        _copy_once(pipeline.rows, out / "rows" / pipeline.evaluate.name / "rows.parquet")
        run, place = pipeline.run, json.loads((pipeline.evaluate.folder / "environment.json").read_text())
        runs.append(
            {
                "study": run.study,
                "method": run.method,
                "part": run.part,
                "cohort": run.cohort,
                "seed": run.config.seed,
                "labelled_patients": pipeline.labelled_patients,
                "pretrain": pipeline.pretrain.name if pipeline.pretrain else None,
                "finetune": pipeline.finetune.name,
                "evaluate": pipeline.evaluate.name,
                "commit": place["commit"],
                "config": run.config.model_dump_json(),
            }
        )
    if not runs:
        return
    path = out / "runs.parquet"
    with path.with_name(".runs.guard").open("w") as guard:  # several drivers may share the folder
        fcntl.flock(guard, fcntl.LOCK_EX)
        table = pd.DataFrame(runs)
        if path.is_file():
            table = pd.concat([pd.read_parquet(path), table]).drop_duplicates([*RUN_KEYS, "evaluate"], keep="last")
        write_file(path, functools.partial(table.to_parquet, index=False))


def refuse_other_versions(out: Path) -> None:
    """Raise ValueError if an OUT folder holds results of another version of this code, which would be misread."""
    if (out / "cells.parquet").is_file():
        raise ValueError(f"{out / 'cells.parquet'} was written by an older version: {ANOTHER_FOLDER}")
    others = []
    for path in sorted(out.glob("stages/*/stage.json")):
        facts = json.loads(path.read_text())
        if facts.get("schema") != SCHEMA.get(facts.get("kind")):
            others.append(path.parent)
    if others:
        raise ValueError(
            f"{others[0]} was computed by another version, as {len(others)} of the stages in {out} were: "
            f"{ANOTHER_FOLDER}"
        )


def _copy_once(source: Path, target: Path) -> None:
    if not target.is_file():
        write_file(target, functools.partial(shutil.copyfile, source))
