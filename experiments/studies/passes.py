"""Are 20 dropout passes needed? A question of ours: the paper takes 20 from UA-MT and tries no other number."""

from __future__ import annotations

from experiments.studies.study import Study, Variation
from experiments.studies.verdict import Contrast

NUMBERS = (2, 5, 10, 20)

STUDY = Study(
    name="passes",
    title="Dropout passes",
    question="Are 20 dropout passes needed for the uncertainty, or would 2, 5 or 10 do?",
    unit_of_analysis="The training run and the patient, by 3-D Dice on the original grid.",
    cost=(
        "One pre-training for each number of passes and seed. gpc, which has no passes, is shared with ablation; "
        "passes20 is the full method of ablation in presets paper and paper_literal alone."
    ),
    paper_says='"We choose to perform 20 forward passes", without a comparison.',
    methods=("gpc", *(f"passes{n}" for n in NUMBERS)),
    reference="passes20",
    contrasts=(
        *(Contrast("passes20", f"passes{n}") for n in NUMBERS if n < 20),
        Contrast("passes20", "gpc", primary=False),
    ),
    variations={f"passes{n}": Variation("full", {"pixel_global": {"mc_passes": n}}) for n in NUMBERS},
)
