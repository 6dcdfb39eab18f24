"""The studies: what each one asks, runs, tests and costs."""

from experiments.studies import ablation, comparison, label_efficiency, low_data, passes, semi_supervised, stabilizers
from experiments.studies.study import Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (comparison, ablation, semi_supervised, low_data, label_efficiency, passes, stabilizers)
}
