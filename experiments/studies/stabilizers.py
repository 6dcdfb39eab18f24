"""Which reading of the context stabiliser helps? Ours to ask: Eqs. (5) and (6) have a trivial minimum as printed.

printed: the absolute value of each pixel's difference, with gradients through both. detached: the same without gradient
through the partner. hinge: what the context explains costs nothing.
"""

from __future__ import annotations

from experiments.studies.study import Study, Variation
from experiments.studies.verdict import Contrast

READINGS = {
    "printed": {"stabilizer": "abs_pixel", "detach_partner": False},
    "detached": {"stabilizer": "abs_pixel", "detach_partner": True},
    "hinge": {"stabilizer": "hinge", "detach_partner": True},
}

# A reading that collapses is measured like the others.
MEASURE_ALL = {"on_collapse": "warn"}

STUDY = Study(
    name="stabilizers",
    title="Readings of the context stabiliser",
    question=(
        "Which reading of Eqs. (5) and (6) helps: as printed, without gradient through the partner, or as a hinge?"
    ),
    unit_of_analysis="The training run and the patient, by 3-D Dice on the original grid.",
    cost=(
        "8 pre-trainings for each seed: go, gp, and gpc and full in each reading. Four of them are shared with "
        "ablation: go, gp, and gpc and full in the reading of the preset (printed in paper_literal, hinge in the "
        "others). A reading that collapses is measured like the others, with a warning."
    ),
    paper_says="The stabiliser as printed adds to GP (Figure 4, without numbers, intervals or a test).",
    methods=("random", "go", "gp", *(f"{part}_{reading}" for part in ("gpc", "full") for reading in READINGS)),
    reference="full_hinge",
    contrasts=(
        Contrast("gpc_printed", "gp"),
        *(Contrast(f"gpc_{reading}", "gp", primary=False) for reading in READINGS if reading != "printed"),
        *(Contrast(f"full_{reading}", f"gpc_{reading}", primary=False) for reading in READINGS),
        Contrast("gp", "go", primary=False),
        Contrast("full_hinge", "random", primary=False),
    ),
    variations={
        f"{part}_{reading}": Variation(part, {"pixel_global": settings, "pretrain": MEASURE_ALL})
        for part in ("gpc", "full")
        for reading, settings in READINGS.items()
    },
)
