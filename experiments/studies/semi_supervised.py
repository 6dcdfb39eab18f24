"""Does pre-training help where there is no other data than the training set itself?  (the paper's Table 2)

Question: with the training patients alone, their labels used only in fine-tuning, does pre-training on their own slices
    segment held-out patients better than random initialisation?
Unit of analysis: the patient (3-D Dice on the original grid); the paper's test over slices is printed below it.
Cost: one pre-training for each seed, on the training split, which is smaller than the pool of `comparison`; one
    fine-tuning for each cell, those from random weights being shared with `comparison`.
The paper says: Ours beats random by 5.74 %, 1.34 % and 7.24 % (relative, average DSC) on its three cohorts; for the
    last its own table gives 5.45 %.
Not reproduced, if: the 95 % interval of the gain over patients includes 0.
Run: python -m experiments run semi_supervised --store STORE --out OUT --preset small --seeds 0,1,2
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.runner.runs import Cell
from experiments.studies.grid import grid_of
from pixelglobal.config.overrides import with_settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

NAME = "semi_supervised"


TITLE = "Pre-training on the training patients alone"


QUESTION = (
    "Are held-out patients segmented better after pre-training on the training patients alone than from random "
    "initialisation?"
)


METHODS = ("random", "full")


REFERENCE = "full"


PAPER_TABLE = "2"


def cells(
    config: Config, stores: Sequence[Store], *, seeds: Sequence[int], methods: Sequence[str] = METHODS
) -> list[Cell]:
    """One cell for each cohort, method and seed; nothing but the training split is seen before the test."""
    alone = with_settings(config, pretrain={"cases": "train"})
    return grid_of(NAME, alone, stores=stores, seeds=seeds, methods=methods)
