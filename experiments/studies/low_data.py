"""How many labelled patients does pre-training save? The paper's Figure 5."""

from __future__ import annotations

from experiments.studies.study import Study
from experiments.studies.verdict import Contrast

STUDY = Study(
    name="low_data",
    title="Few labelled patients",
    question="How does the segmentation grow with the number of labelled patients, with and without pre-training?",
    unit_of_analysis=(
        "The training run and the patient, by 3-D Dice on the original grid. Smaller subsets of the training patients "
        "lie inside larger ones and are the same for all methods; with another seed they are other subsets."
    ),
    cost=(
        "No pre-training beyond those of comparison; one fine-tuning for each method, share of the labelled patients "
        "and seed, of which the share 1 is that of comparison."
    ),
    paper_says=(
        "With 10 % of the labels the pre-trained model keeps 82.39 %, 89.85 % and 80.25 % of its DSC; what random "
        "initialisation keeps is not said."
    ),
    methods=("random", "full"),
    reference="full",
    contrasts=(Contrast("full", "random"),),
    label_fractions=(0.1, 0.25, 0.5, 1.0),
)
