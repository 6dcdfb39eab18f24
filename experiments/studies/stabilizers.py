"""Which reading of the context stabiliser helps?  (ours: Eqs. (5) and (6) as printed have a trivial minimum)

Question: does taking away the partner's disagreement help as printed (`printed`: the absolute value of each pixel's
    difference, with gradients through both), without gradient through the partner (`detached`), or as a hinge (`hinge`:
    what the context explains costs nothing)? Each without (GPC) and with uncertainty weighting (full), beside random
    initialisation, GO and GP.
Unit of analysis: the patient (3-D Dice on the original grid); with three runs or more, the run for claims on methods.
Cost: one pre-training for each of the eight methods and each seed; four of them are shared with `ablation`. A reading
    that collapses is measured like the others, with a warning in its log.
The paper says: the stabiliser as printed adds to GP (Figure 4, without numbers, intervals or a test).
Not reproduced, if: GPC as printed is not better than GP, patients as units, corrected.
Run: python -m experiments run stabilizers --store STORE --out OUT --preset small --seeds 0,1,2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiments.runner.runs import Cell
from experiments.studies.grid import grid_of
from pixelglobal.config.overrides import variant, with_settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

NAME = "stabilizers"


TITLE = "Readings of the context stabiliser"


QUESTION = "Which reading of Eqs. (5) and (6) helps: as printed, without gradient through the partner, or as a hinge?"


READINGS = {
    "printed": {"stabilizer": "abs_pixel", "detach_partner": False},
    "detached": {"stabilizer": "abs_pixel", "detach_partner": True},
    "hinge": {"stabilizer": "hinge", "detach_partner": True},
}


METHODS = ("random", "go", "gp", *(f"{part}_{reading}" for part in ("gpc", "full") for reading in READINGS))


REFERENCE = "full_hinge"


def _read_as(part: str, reading: str) -> Callable[[Config], Config]:
    settings = {**READINGS[reading], "on_collapse": "warn"}
    return lambda config: with_settings(variant(config, part), pretrain=settings)


def cells(
    config: Config, stores: Sequence[Store], *, seeds: Sequence[int], methods: Sequence[str] = METHODS
) -> list[Cell]:
    """One cell for each cohort, reading of each part and seed, and for what they are compared with."""
    own = {f"{part}_{reading}": _read_as(part, reading) for part in ("gpc", "full") for reading in READINGS}
    return grid_of(NAME, config, stores=stores, seeds=seeds, methods=methods, configs=own)
