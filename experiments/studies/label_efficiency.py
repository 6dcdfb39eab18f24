"""Does pre-training pay where few patients are labelled? Ours to ask, with the runs that such a claim takes.

12 draws of labelled patients share 4 pre-trainings of each method, and runs from one pre-training are averaged before a
test. Fine-tuning takes 300 steps, after which it still improves, and 1,000 in methods whose name ends in _long. In
those that end in _self, a fresh network from the same weights also learns from the labels that it gives to others.
"""

from __future__ import annotations

from typing import Any

from experiments.studies.study import Study, Variation
from experiments.studies.verdict import Contrast, GainRule

SHORT = {"epochs": 1, "steps_per_epoch": 300}
MORE: dict[str, dict[str, Any]] = {
    "long": {"finetune": {"steps_per_epoch": 1000}},
    "self": {"finetune": {"pseudo_labels": 2500}},
}

STUDY = Study(
    name="label_efficiency",
    title="Few labels, many runs",
    question="With 1 and with 4 labelled patients, are held-out patients segmented better after pre-training?",
    unit_of_analysis=(
        "The pre-training and the patient, by 3-D Dice on the original grid. A run is scored on the structures that "
        "its labelled patients have; these patients are the same for all methods."
    ),
    cost=(
        "4 pre-trainings of each method whatever the number of runs, and one fine-tuning for each method, number of "
        "labelled patients and seed; meant for 12 seeds (--seeds 0,1,2,3,4,5,6,7,8,9,10,11)."
    ),
    paper_says="Nothing about 1 or 4 patients; its smallest share of labels is 10 % (Figure 5).",
    methods=(
        "random",
        "full_matched",
        *(f"{base}_{more}" for more in MORE for base in ("random", "full_matched")),
        "pgl",
    ),
    reference="full_matched",
    contrasts=(
        Contrast("full_matched", "random"),
        Contrast("full_matched_long", "random_long", primary=False),
        Contrast("full_matched_self", "random_self", primary=False),
        Contrast("random_self", "random", primary=False),
        Contrast("full_matched", "pgl", primary=False),
    ),
    rule=GainRule(smallest_gain_points=2.0, labelled_patients=4),
    settings={"finetune": SHORT},
    variations={
        f"{method}_{name}": Variation(method, settings)
        for method in ("random", "full_matched")
        for name, settings in MORE.items()
    },
    label_counts=(1, 4),
    pretraining_seeds=4,
    in_all=False,
)
