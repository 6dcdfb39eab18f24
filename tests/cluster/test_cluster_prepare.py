"""`prepare` over Ray gives what it gives without, rejects included."""

import shutil

import pandas as pd
import pytest
import ray

from pixelglobal.cluster.map import map_on_ray
from pixelglobal.data.prepare import prepare


@pytest.fixture
def ray_here():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.cluster
def test_prepare_on_ray_equals_prepare_in_this_process(ray_here, phantom_folder, store, tiny, tmp_path):
    cohort = shutil.copytree(phantom_folder, tmp_path / "cohort")
    (cohort / "imagesTr" / "phantom_007.nii.gz").write_bytes(b"not a scan")  # one of the unlabelled
    made = prepare(cohort, tmp_path / "store", tiny.prepare, map_cases=map_on_ray)
    assert set(made.rejects) == {"phantom_007"}
    expected = store.cases[store.cases["case"] != "phantom_007"].reset_index(drop=True)
    pd.testing.assert_frame_equal(made.store.cases, expected)
