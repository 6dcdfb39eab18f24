"""Does pre-training help where there are no scans beyond the training set itself? The paper's Table 2."""

from __future__ import annotations

from experiments.studies.study import Study
from experiments.studies.verdict import Contrast

STUDY = Study(
    name="semi_supervised",
    title="Pre-training on the training patients alone",
    question=(
        "Are held-out patients segmented better after pre-training on the training patients alone than from random "
        "initialisation?"
    ),
    unit_of_analysis="The training run and the patient, by 3-D Dice on the original grid.",
    cost=(
        "One pre-training for each seed, on the training split, which is smaller than the pool of comparison, and one "
        "fine-tuning for each run. Nothing is shared with comparison: random initialisation, too, is normalised by the "
        "training split alone."
    ),
    paper_says=(
        "Ours beats random initialisation by 5.74 %, 1.34 % and 7.24 % (relative, average DSC) on its three cohorts; "
        "for the last its own table gives 5.45 %."
    ),
    methods=("random", "full"),
    reference="full",
    contrasts=(Contrast("full", "random"),),
    settings={"pretrain": {"cases": "train"}},
    paper_table="2",
)
