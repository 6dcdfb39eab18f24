"""The bench of streams gives every peer the same slices, and takes its numbers from what they deliver."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from experiments.bench.data import BATCH_SIZE, measure, mixing
from experiments.bench.data_peers import SLICES_PER_SCAN, MappedSlices, ParquetSlices, synthetic_store
from pixelglobal.data.stream import LocalStream


@pytest.fixture(scope="module")
def bench_store(tmp_path_factory):
    return synthetic_store(tmp_path_factory.mktemp("bench"), 2 * SLICES_PER_SCAN)


def test_the_stream_and_its_peers_read_the_same_slices(bench_store):
    parquet, mapped = ParquetSlices(bench_store), MappedSlices(bench_store)
    assert len(parquet) == len(mapped) == 2 * SLICES_PER_SCAN
    for index in (0, 17, 130, 255):
        assert np.array_equal(parquet[index], mapped[index])
    cases = list(bench_store.cases["case"])
    for batch in islice(LocalStream(bench_store, cases, batch_size=BATCH_SIZE, seed=0).batches(0), 3):
        for image, case, index in zip(batch.image_hu, batch.case, batch.slice_index.tolist(), strict=True):
            assert torch.equal(image, torch.from_numpy(mapped[cases.index(case) * SLICES_PER_SCAN + index]))


def test_slices_a_second_are_those_that_were_taken(bench_store):
    found = measure(iter(DataLoader(MappedSlices(bench_store), BATCH_SIZE)), 20)
    assert 0 < found["slices/s"] < 1e6
    assert found["RSS MiB"] > found["of slices MiB"]
    with pytest.raises(StopIteration):
        measure(iter([]), 20)


def test_two_scans_are_mixed_as_well_as_can_be(bench_store):
    shares = mixing(bench_store)
    assert list(shares) == ["mixing_of_a_batch"]  # there are no 100 batches
    assert 0.97 < shares["mixing_of_a_batch"] <= 1.01
