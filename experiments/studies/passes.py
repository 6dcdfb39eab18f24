"""Are 20 dropout passes needed?  (ours: the paper takes 20 from UA-MT and tries no other number)

Question: how does the segmentation depend on the number of Monte-Carlo passes behind the uncertainty, and at what cost?
Unit of analysis: the patient (3-D Dice on the original grid); with three runs or more, the run for claims on methods.
Cost: one pre-training for each number of passes and seed; 0 passes is GPC and 20 is `full`, shared with `ablation`.
The paper says: "We choose to perform 20 forward passes".
Not needed, if: fewer passes are not worse than 20 by one DSC point or more (two one-sided tests over patients).
Run: python -m experiments run passes --store STORE --out OUT --preset small --seeds 0,1,2
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.runner.runs import Cell
from experiments.studies.grid import grid_of
from pixelglobal.config.overrides import variant, with_settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

NAME = "passes"


TITLE = "Dropout passes"


QUESTION = "Are 20 dropout passes needed for the uncertainty, or would 2, 5 or 10 do?"


NUMBERS = (2, 5, 10, 20)


METHODS = ("gpc", *(f"passes{n}" for n in NUMBERS))  # gpc has none


REFERENCE = "passes20"


def with_passes(config: Config, number: int) -> Config:
    """The full method with this number of passes."""
    return with_settings(variant(config, "full"), pretrain={"mc_passes": number})


def cells(
    config: Config, stores: Sequence[Store], *, seeds: Sequence[int], methods: Sequence[str] = METHODS
) -> list[Cell]:
    """One cell for each cohort, number of passes and seed."""
    own = {f"passes{n}": lambda config, n=n: with_passes(config, n) for n in NUMBERS}
    return grid_of(NAME, config, stores=stores, seeds=seeds, methods=methods, configs=own)
