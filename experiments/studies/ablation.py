"""Which part of the method does what?  (the paper's Figure 4)

Question: does each part of the loss add something: global agreement (GO), pixel matching (GP), the context stabiliser
    (GPC), uncertainty (full)?
Unit of analysis: the patient (3-D Dice on the original grid); with three runs or more, the run for claims on methods.
Cost: one pre-training for each variant and seed, shared with `comparison` where it has the same ones.
The paper says: each part adds, in a bar chart without numbers, intervals or a test.
Not reproduced, if: a variant with one part more is not better than the one before it, patients as units, corrected.
Run: python -m experiments run ablation --store STORE --out OUT --preset small --seeds 0,1,2
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.runner.runs import Cell
from experiments.studies.grid import grid_of
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

NAME = "ablation"


TITLE = "Parts of the method"


QUESTION = "Does each part of the loss add something: pixel matching, the context stabiliser, uncertainty?"


METHODS = ("go", "gp", "gpc", "full")


REFERENCE = "full"


def cells(
    config: Config, stores: Sequence[Store], *, seeds: Sequence[int], methods: Sequence[str] = METHODS
) -> list[Cell]:
    """One cell for each cohort, variant and seed."""
    return grid_of(NAME, config, stores=stores, seeds=seeds, methods=methods)
