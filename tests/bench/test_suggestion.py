"""The bench of suggestions reads no test patient, keeps what is done, and gives both arms the same first patients."""

import pandas as pd
import pytest

from experiments.bench.suggestion import bench_suggestion
from tests.support import TINY

NETWORK = [*TINY, "network.encoder=test_resnet"]


def test_both_arms_add_training_patients_and_are_scored_on_validation(store, tmp_path):
    file = tmp_path / "rows.csv"
    findings = bench_suggestion(store, file, [0], overrides=NETWORK, steps=1, n_start=1, n_added=1)
    rows = pd.read_csv(file, keep_default_na=False)
    assert set(rows["arm"]) == {"start", "random", "suggested"}
    assert set(rows["patient"]) == set(store.splits.validation)
    assert set(rows.loc[rows["arm"] != "start", "added"]) <= set(store.splits.train)
    bench_suggestion(store, file, [0], overrides=NETWORK, steps=1, n_start=1, n_added=1)
    assert len(pd.read_csv(file)) == len(rows)
    assert {row["arm"] for row in findings.rows} == {"start", "random", "suggested"}
    with pytest.raises(ValueError, match=r"the training split of .* has \d scans; 8 are needed"):
        bench_suggestion(store, file, [0], overrides=NETWORK)
