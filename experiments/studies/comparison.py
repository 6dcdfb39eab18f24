"""Does pre-training help, and which method? The paper's Table 1, Figures 2 and 3."""

from __future__ import annotations

from experiments.studies.study import Study
from experiments.studies.verdict import Contrast

STUDY = Study(
    name="comparison",
    title="Pre-training compared",
    question=(
        "Are held-out patients segmented better after self-supervised pre-training than from random initialisation, "
        "with the same few labels?"
    ),
    unit_of_analysis="The training run and the patient, by 3-D Dice on the original grid.",
    cost=(
        "One pre-training for each method and seed, and one fine-tuning for each run. On 2 CPU cores about 5 minutes "
        "for 2 seeds of preset smoke and an hour or two for 3 of small; preset paper needs GPUs for weeks."
    ),
    paper_says=(
        "Ours beats random initialisation by 14.93 %, 4.19 % and 12.52 % (relative, average DSC) on its three cohorts."
    ),
    methods=("random", "full"),
    reference="full",
    contrasts=(Contrast("full", "random"),),
)
