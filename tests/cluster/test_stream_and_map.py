"""Ray Data as a stream: the same slices as on disk, mixed, the same order from the same seed; scans prepared on Ray."""

import pytest
import ray
import torch

from pixelglobal.cluster.map import map_on_ray
from pixelglobal.cluster.stream import RayStream, slice_dataset
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def two_cpus(ray_on_two_cpus):
    """Ray, with the order of rows kept as Ray Train keeps it here."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False


def stream(store, *, seed=0, first_epoch=0, cases=None):
    cases = cases or store.splits.pretrain
    shard = slice_dataset(store, cases, seed=seed, first_epoch=first_epoch).iterator()
    return RayStream(shard, n_slices=store.n_slices(cases), batch_size=4, buffer_slices=16, seed=seed, rank=0)


def order(batches):
    return [(case, index) for b in batches for case, index in zip(b.case, b.slice_index.tolist(), strict=True)]


def test_every_slice_comes_once_as_it_lies_on_disk(two_cpus, store):
    batches = list(stream(store).epoch(0))
    seen = order(batches)
    assert {len(b) for b in batches} == {4}
    assert len(set(seen)) == len(seen) == store.n_slices(store.splits.pretrain) // 4 * 4
    whole = {case: store.read_case(case) for case in store.splits.pretrain}
    for batch in batches:
        assert batch.image_hu.dtype == torch.int16
        for i, (case, index) in enumerate(order([batch])):
            assert torch.equal(batch.image_hu[i], whole[case].image_hu[index])
            assert batch.patient[i] == whole[case].patient[index]


def test_the_order_is_mixed_and_a_function_of_seed_and_epoch(two_cpus, store):
    one = stream(store)
    first = order(one.epoch(0))
    assert first != order(one.epoch(1))
    assert first == order(stream(store).epoch(0))
    assert first != sorted(first)
    assert first != order(stream(store, seed=1).epoch(0))
    assert first != order(stream(store, first_epoch=1).epoch(0))


def test_labels_stay_on_disk(two_cpus, store):
    batch = next(stream(store).epoch(0))
    assert batch.label.numel() == 0


def test_no_cases_are_an_error_that_names_the_store(store):
    with pytest.raises(ValueError, match=f"no cases to stream from {store.root}: the split is empty"):
        slice_dataset(store, [], seed=0)


def test_prepare_on_ray_is_prepare_and_a_bad_scan_spoils_only_itself(two_cpus, tiny, tmp_path):
    cohort = make_phantom_cohort(tmp_path / "phantom", n_patients=5, n_unlabelled=1, size=32, n_slices=4)
    bad = sorted(cohort.glob("imagesTr/*.nii.gz"))[0]
    bad.write_bytes(bad.read_bytes()[:100])
    plain = prepare(cohort, tmp_path / "plain", tiny.prepare)
    spread = prepare(cohort, tmp_path / "spread", tiny.prepare, map_cases=map_on_ray)
    assert list(spread.rejects) == list(plain.rejects) == [bad.name.removesuffix(".nii.gz")]
    assert spread.store.cases.equals(plain.store.cases)
    for case in plain.store.cases["case"]:
        assert torch.equal(plain.store.read_case(case).image_hu, spread.store.read_case(case).image_hu)
