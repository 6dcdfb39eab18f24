"""How many labelled patients does pre-training save?  (the paper's Figure 5)

Question: how does the segmentation of held-out patients grow with the share of training patients whose labels are used,
    from random weights and after pre-training?
Unit of analysis: the patient (3-D Dice on the original grid). Smaller subsets lie inside larger ones and are the same
    for all methods; with another seed they are other subsets.
Cost: no pre-training beyond those of `comparison`; one fine-tuning for each method, share and seed.
The paper says: with 10 % of the labels the pre-trained model keeps 82.39 %, 89.85 % and 80.25 % of its DSC; its text
    does not say what random initialisation keeps.
Not reproduced, if: at the smallest share the 95 % interval of the gain over patients includes 0.
Run: python -m experiments run low_data --store STORE --out OUT --preset small --fractions 0.1,0.25,0.5,1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.runner.runs import Cell
from experiments.studies.grid import grid_of
from pixelglobal.config.overrides import with_settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

NAME = "low_data"


TITLE = "Few labelled patients"


QUESTION = "How does the segmentation grow with the number of labelled patients, with and without pre-training?"


METHODS = ("random", "full")


REFERENCE = "full"


FRACTIONS = (0.1, 0.25, 0.5, 1.0)


def cells(
    config: Config,
    stores: Sequence[Store],
    *,
    seeds: Sequence[int],
    methods: Sequence[str] = METHODS,
    fractions: Sequence[float] = FRACTIONS,
) -> list[Cell]:
    """One cell for each cohort, share of its training patients, method and seed."""
    grid = []
    for cell in grid_of(NAME, config, stores=stores, seeds=seeds, methods=methods):
        for count in labelled_patients(cell.store, fractions):
            few = with_settings(cell.config, finetune={"patients": count})
            grid.append(replace(cell, config=few, part=f"{count}patients"))
    return grid


def labelled_patients(store: Store, fractions: Sequence[float]) -> list[int]:
    """How many training patients the fractions stand for, at least one each, without repetition.

    Raises ValueError for a fraction that is not in (0, 1].
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"--fractions {fraction:g}: a share of the training patients is above 0 and at most 1")
    total = store.cases[store.cases["case"].isin(store.splits.train)]["patient"].nunique()
    return sorted({max(1, round(fraction * total)) for fraction in fractions})
