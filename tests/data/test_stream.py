"""The stream: batches of what is on disk, each a function of seed and step, whichever step comes first."""

import shutil
import threading
from itertools import islice

import pytest
import torch

from pixelglobal.data import slices
from pixelglobal.data.store import Store
from pixelglobal.data.stream import LocalStream


def stream_of(store, seed=0, batch_size=4, **worker):
    return LocalStream(store, store.splits.pretrain, batch_size=batch_size, seed=seed, **worker)


def names(stream, first, count):
    """(case, slice index) of the slices of some batches."""
    batches = islice(stream.batches(first), count)
    return [list(zip(b.case, b.slice_index.tolist(), strict=True)) for b in batches]


def test_a_step_has_its_batch_whichever_step_comes_first(store):
    whole = names(stream_of(store), 0, 60)  # several passes
    assert whole == names(stream_of(store), 0, 60)
    for first in range(0, 60, 7):
        assert names(stream_of(store), first, 60 - first) == whole[first:]
    assert whole != names(stream_of(store, seed=1), 0, 60)


def test_every_slice_comes_once_in_a_pass(store):
    n = store.n_slices(store.splits.pretrain)
    seen = [s for batch in names(stream_of(store, batch_size=3), 0, 2 * n) for s in batch]
    for turn in range(6):  # 3 does not divide n: a batch may have slices of two passes
        assert len(set(seen[turn * n : (turn + 1) * n])) == n


def test_workers_share_a_pass(store):
    n = store.n_slices(store.splits.pretrain)
    workers = [stream_of(store, batch_size=1, rank=rank, world_size=2) for rank in range(2)]
    sizes = [len(worker.order.pass_(0)[0]) for worker in workers]
    assert sum(sizes) == n
    seen = [s for w, size in zip(workers, sizes, strict=True) for batch in names(w, 0, size) for s in batch]
    assert len(set(seen)) == n
    assert workers[0].n_slices == n


def test_streamed_pixels_are_those_of_their_address(store):
    batch = next(stream_of(store, batch_size=5).batches(3))
    assert batch.image_hu.dtype == torch.int16
    assert batch.label.numel() == 0
    for i, (case, index) in enumerate(zip(batch.case, batch.slice_index.tolist(), strict=True)):
        whole = store.read_case(case)
        assert torch.equal(batch.image_hu[i], whole.image_hu[index])
        assert (batch.patient[i], int(batch.n_slices[i])) == (whole.patient[0], len(whole))


def test_a_store_that_is_away_for_a_while_is_waited_for(store, tmp_path, monkeypatch):
    expected = names(stream_of(store), 0, 60)
    copy = Store.open(shutil.copytree(store.root, tmp_path / "store"))
    batches, away = stream_of(copy).batches(0), tmp_path / "away"
    seen = [next(batches)]
    copy.root.rename(away)
    back = threading.Timer(1.5, lambda: away.rename(copy.root))
    back.start()
    seen += islice(batches, 59)
    assert [list(zip(b.case, b.slice_index.tolist(), strict=True)) for b in seen] == expected
    back.join()
    monkeypatch.setattr(slices, "SECONDS_AWAY", 0.0)
    copy.root.rename(away)
    with pytest.raises(ValueError, match=r"cannot read .*store/slices/.*\.parquet: .*No such file"):
        list(islice(batches, 60))


def test_what_cannot_be_streamed_is_refused(store):
    with pytest.raises(ValueError, match=r"no cases to stream from .*: the split is empty"):
        LocalStream(store, (), batch_size=4, seed=0)
    n = store.n_slices(store.splits.pretrain)
    with pytest.raises(ValueError, match=rf"has {n} slices to pre-train on, too few for one batch of {n + 1}; lower"):
        stream_of(store, batch_size=n + 1)
