"""Which part of the method does what? The paper's Figure 4."""

from __future__ import annotations

from experiments.studies.study import Study
from experiments.studies.verdict import Contrast

STUDY = Study(
    name="ablation",
    title="Parts of the method",
    question="Does each part of the loss add something: pixel matching, the context stabiliser, uncertainty?",
    unit_of_analysis="The training run and the patient, by 3-D Dice on the original grid.",
    cost="One pre-training for each variant and seed; those that comparison has, too, are shared with it.",
    paper_says="Each part adds to the one before it, in a bar chart without numbers, intervals or a test.",
    methods=("go", "gp", "gpc", "full"),
    reference="full",
    contrasts=(Contrast("gp", "go"), Contrast("gpc", "gp"), Contrast("full", "gpc")),
)
