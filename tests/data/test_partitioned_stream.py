"""Batches of one slice of each part of a scan: every part once, any step first, workers apart."""

import pytest
import torch

from pixelglobal.data.partitioned_stream import PartitionedStream, slice_of_part
from pixelglobal.data.slices import images_of, read_images
from pixelglobal.losses.contrastive import partition_of
from pixelglobal.training.pretraining_stream import pretraining_stream
from tests.methods.test_methods import of


def stream_of(store, **changes):
    values = {"n_partitions": 4, "batch_size": 8, "seed": 0, **changes}
    return PartitionedStream(store, store.splits.pretrain, **values)


def taken(stream, count, first=0):
    batches = stream.batches(first)
    return [next(batches) for _ in range(count)]


def test_a_batch_has_one_slice_of_each_part_of_its_scans(store):
    seen = set()
    for batch in taken(stream_of(store), 12):
        assert batch.case[:4] == batch.case[:1] * 4
        assert batch.case[4:] == batch.case[4:5] * 4
        assert batch.case[0] != batch.case[4]
        depth = (batch.slice_index + 0.5) / batch.n_slices
        assert partition_of(depth, 4).tolist() == [0, 1, 2, 3] * 2
        for i in range(8):
            column = read_images(store.paths([batch.case[i]])[0], int(batch.slice_index[i]), 1)
            [image] = images_of(column, store.image_size)
            assert torch.equal(batch.image_hu[i], torch.from_numpy(image))
        seen |= set(zip(batch.case, batch.slice_index.tolist(), strict=True))
    assert len(seen) > 0.8 * store.n_slices(store.splits.pretrain)


def test_every_scan_comes_once_in_a_pass_and_any_step_can_be_the_first(store):
    n = len(store.splits.pretrain)
    batches = taken(stream_of(store), 2 * n)
    scans = [case for batch in batches for case in batch.case[::4]]
    assert sorted(scans[:n]) == sorted(scans[n : 2 * n]) == sorted(store.splits.pretrain)
    assert scans[:n] != scans[n : 2 * n]
    for later, batch in zip(taken(stream_of(store), 3, first=2), batches[2:], strict=False):
        assert torch.equal(later.image_hu, batch.image_hu)
    assert not torch.equal(taken(stream_of(store, seed=1), 1)[0].image_hu, batches[0].image_hu)


def test_workers_have_scans_of_their_own(store):
    n = len(store.splits.pretrain)
    workers = [taken(stream_of(store, batch_size=4, rank=rank, world_size=2), n // 2) for rank in (0, 1)]
    scans = [batch.case[0] for batches in workers for batch in batches]
    assert sorted(scans) == sorted(store.splits.pretrain)


def test_a_batch_that_is_no_whole_number_of_groups_is_refused(store):
    with pytest.raises(ValueError, match=r"of 6 slices on each worker.*make pretrain\.batch_size a multiple of 8"):
        stream_of(store, batch_size=6, world_size=2)


def test_short_scans_give_the_nearest_slice():
    assert [slice_of_part(1, part, 4, 0.9) for part in range(4)] == [0, 0, 0, 0]
    assert [slice_of_part(3, part, 4, 0.9) for part in range(4)] == [0, 1, 1, 2]


def test_gl_has_such_a_stream_and_methods_that_draw_slices_alone_do_not(tiny, store):
    for variant, partitioned in (("partition", True), ("partition_negatives", True), ("random", False)):
        config = of(tiny, "gl", {"variant": variant})
        assert isinstance(pretraining_stream(config, store), PartitionedStream) == partitioned
    assert not isinstance(pretraining_stream(of(tiny, "pgl"), store), PartitionedStream)
