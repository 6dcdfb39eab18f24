"""Does pre-training help, and which?  (the paper's Table 1, Figures 2 and 3)

Question: are patients segmented better after the full method than from random initialisation, with the same few labels?
Unit of analysis: the patient (3-D Dice on the original grid); the paper's test over slices is printed below it.
Cost: one pre-training for each method and seed, one fine-tuning for each cell; on 2 CPU cores about 5 minutes for 2
    seeds of preset `smoke` and about an hour for 3 of `small`; preset `paper` needs GPUs for weeks.
The paper says: Ours beats random by 14.93 %, 4.19 % and 12.52 % (relative, average DSC) on its three cohorts.
Not reproduced, if: the 95 % interval of the gain over patients includes 0.
Run: python -m experiments run comparison --store STORE --out OUT --preset small --methods random,gl,pgl,full
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.runner.runs import Cell
from experiments.studies.grid import grid_of
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

NAME = "comparison"


TITLE = "Pre-training compared"


QUESTION = (
    "Are held-out patients segmented better after self-supervised pre-training than from random initialisation, "
    "with the same few labels?"
)


METHODS = ("random", "full")


REFERENCE = "full"


def cells(
    config: Config, stores: Sequence[Store], *, seeds: Sequence[int], methods: Sequence[str] = METHODS
) -> list[Cell]:
    """One cell for each cohort, method and seed."""
    return grid_of(NAME, config, stores=stores, seeds=seeds, methods=methods)
