"""Ray Data as a stream: it is the stream without Ray, from any step on and for each worker; scans prepared on Ray."""

import shutil
from collections import Counter
from itertools import islice

import pytest
import ray
import torch

from pixelglobal.cluster import stream
from pixelglobal.cluster.map import map_on_ray
from pixelglobal.cluster.stream import RayStream
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.pool import pool_of
from pixelglobal.data.prepare import prepare
from pixelglobal.data.store import Store
from pixelglobal.data.stream import LocalStream
from tests.support import phantom_store

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def two_cpus(ray_on_two_cpus):
    ray.data.DataContext.get_current().enable_progress_bars = False


@pytest.mark.parametrize(("rank", "workers", "first"), [(0, 1, 0), (1, 2, 37)])
def test_it_is_the_stream_without_ray(two_cpus, store, monkeypatch, rank, workers, first):
    """Over many passes, blocks and two executions."""
    monkeypatch.setattr(stream, "BLOCKS_PER_EXECUTION", 4)
    worker = {"batch_size": 4, "seed": 0, "rank": rank, "world_size": workers}
    streams = [kind(store, store.splits.pretrain, **worker) for kind in (RayStream, LocalStream)]
    batches = [list(islice(one.batches(first), 120)) for one in streams]
    for ours, plain in zip(*batches, strict=True):
        assert (ours.case, ours.slice_index.tolist()) == (plain.case, plain.slice_index.tolist())
        assert torch.equal(ours.image_hu, plain.image_hu)


def test_a_pool_comes_as_it_does_without_ray_each_source_as_often_as_its_weight_says(
    two_cpus, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(stream, "BLOCKS_PER_EXECUTION", 4)
    few = phantom_store(tmp_path, tiny, "Few", seed=1, n_patients=3, n_unlabelled=0)
    many = phantom_store(tmp_path, tiny, "Many", seed=2, n_patients=3, n_unlabelled=2)
    pool = pool_of([few, many], "balanced")
    streams = [kind(pool, pool.scans, batch_size=4, seed=0) for kind in (RayStream, LocalStream)]
    batches = [list(islice(one.batches(0), 12)) for one in streams]  # a pass: 6 scans of 8 slices
    for ours, plain in zip(*batches, strict=True):
        assert (ours.case, ours.patient) == (plain.case, plain.patient)
        assert torch.equal(ours.image_hu, plain.image_hu)
    counts = Counter(case.partition("/")[0] for batch in batches[0] for case in batch.case)
    assert counts == {"Few": 24, "Many": 24}


def test_a_damaged_file_is_named_by_the_task_that_reads_it(two_cpus, store, tmp_path):
    copy = Store.open(shutil.copytree(store.root, tmp_path / "store"))
    path = copy.path(copy.splits.pretrain[0])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Exception, match=rf"cannot read {path}.*pixelglobal prepare` again"):
        list(islice(RayStream(copy, copy.splits.pretrain, batch_size=4, seed=0).batches(0), 60))


def test_prepare_on_ray_is_prepare_and_a_bad_scan_spoils_only_itself(two_cpus, tiny, tmp_path):
    cohort = make_phantom_cohort(tmp_path / "phantom", n_patients=5, n_unlabelled=1, size=32, n_slices=4)
    bad = sorted(cohort.glob("imagesTr/*.nii.gz"))[0]
    bad.write_bytes(bad.read_bytes()[:100])
    plain = prepare(cohort, tmp_path / "plain", tiny.prepare)
    spread = prepare(cohort, tmp_path / "spread", tiny.prepare, map_cases=map_on_ray)
    assert list(spread.quarantined) == list(plain.quarantined) == [bad.name.removesuffix(".nii.gz")]
    assert spread.store.cases.equals(plain.store.cases)
    for case in plain.store.cases["case"]:
        assert torch.equal(plain.store.read_case(case).image_hu, spread.store.read_case(case).image_hu)
