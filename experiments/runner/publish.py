"""Every result of an OUT folder as one Parquet data set, and a table that says which cells each result belongs to.

    OUT/rows/evaluate-<address>/rows.parquet    one row for a structure in a slice, or in a whole scan
    OUT/cells.parquet                           one row for a cell of a study; many may point to one stage

Rows are written once, when their evaluation is complete, and never changed: an address is all that made them. The
columns are described in docs/reference/rows.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:  # trials publish, too
    from experiments.runner.runs import Chain


CELL_KEYS = ["study", "method", "part", "cohort", "seed"]


def publish(chains: Sequence[Chain], out: Path) -> None:
    """Put the rows of finished cells into the data set, and the cells into their table."""
    cells = []
    for chain in chains:
        if not chain.evaluate.is_complete:
            continue
        _copy_once(chain.rows, out / "rows" / chain.evaluate.name / "rows.parquet")
        cell, place = chain.cell, json.loads((chain.evaluate.folder / "environment.json").read_text())
        cells.append(
            {
                "study": cell.study,
                "method": cell.method,
                "part": cell.part,
                "cohort": cell.cohort,
                "seed": cell.config.seed,
                "labelled_patients": chain.labelled_patients,
                "pretrain": chain.pretrain.name if chain.pretrain else None,
                "finetune": chain.finetune.name,
                "evaluate": chain.evaluate.name,
                "commit": place["commit"],
                "config": cell.config.model_dump_json(),
            }
        )
    if not cells:
        return
    path = out / "cells.parquet"
    with path.with_name(".cells.guard").open("w") as guard:  # several drivers may share the folder
        fcntl.flock(guard, fcntl.LOCK_EX)
        table = pd.DataFrame(cells)
        if path.is_file():
            table = pd.concat([pd.read_parquet(path), table]).drop_duplicates([*CELL_KEYS, "evaluate"], keep="last")
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        table.to_parquet(scratch, index=False)
        scratch.rename(path)


def _copy_once(source: Path, target: Path) -> None:
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, scratch)
    scratch.rename(target)
