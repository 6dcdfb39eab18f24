"""Slices: what is written is what is read, whatever the batch was cut from, and epochs follow their seed."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pixelglobal.data.slices import IMAGE_COLUMNS, ROWS_PER_GROUP, SliceBatch, read_slices, schema, write_slices
from pixelglobal.data.stream import LocalStream

N, SIDE = 70, 8  # more rows than one row group


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(-1024, 326, (N, SIDE, SIDE), np.int16), rng.integers(0, 3, (N, SIDE, SIDE), np.uint8)


@pytest.fixture
def path(arrays, tmp_path):
    write_slices(
        tmp_path / "c.parquet", *arrays, [True, True, False], case="c", patient="p", spacing_mm=(2.5, 1.0, 0.75)
    )
    return tmp_path / "c.parquet"


def test_what_is_written_is_read(path, arrays):
    batch = SliceBatch.from_arrow(read_slices(path))
    assert (batch.image_hu.dtype, batch.label.dtype, batch.contoured.dtype) == (torch.int16, torch.uint8, torch.bool)
    assert (batch.image_hu.numpy() == arrays[0]).all()
    assert (batch.label.numpy() == arrays[1]).all()
    assert batch.contoured.tolist() == [[True, True, False]] * N
    assert batch.slice_index.tolist() == list(range(N))
    assert batch.n_slices.tolist() == [N] * N
    assert (batch.case, batch.patient, len(batch)) == (["c"] * N, ["p"] * N, N)


def test_the_file_is_as_its_schema_says(path, arrays):
    file = pq.ParquetFile(path)
    assert file.schema_arrow.equals(schema(SIDE, 2))
    assert file.schema_arrow.metadata[b"side"] == b"8"
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [ROWS_PER_GROUP, N - ROWS_PER_GROUP]
    column = file.metadata.row_group(0).column(10)
    assert (column.path_in_schema, column.compression) == ("image", "ZSTD")
    assert not any("DICTIONARY" in encoding for encoding in column.encodings)
    table = file.read()
    assert table["n_labelled_pixels"].to_pylist() == (arrays[1] > 0).sum((1, 2)).tolist()
    assert [table[f"spacing_{axis}_mm"][0].as_py() for axis in "zyx"] == [2.5, 1.0, 0.75]
    assert all(table["labelled"].to_pylist())


def test_arrays_of_any_layout_are_written_in_c_order(tmp_path, arrays):
    image = np.asfortranarray(arrays[0]).astype(">i2")
    write_slices(tmp_path / "f.parquet", image, None, [False, False], case="c", patient="p", spacing_mm=(1.0, 1.0, 1.0))
    batch = SliceBatch.from_arrow(read_slices(tmp_path / "f.parquet"))
    assert (batch.image_hu.numpy() == arrays[0]).all()
    assert batch.label.shape == arrays[1].shape
    assert not batch.label.any()
    assert not read_slices(tmp_path / "f.parquet")["labelled"].to_numpy().any()


def test_batches_survive_chunks_and_offsets(path):
    table = read_slices(path)
    whole = SliceBatch.from_arrow(table)
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(20, 0), table.slice(3, 5)]).slice(1, 6)
    assert pieces.column("image").num_chunks > 1
    part = SliceBatch.from_arrow(pieces)
    assert torch.equal(part.image_hu, whole.image_hu[1:7])
    assert torch.equal(part.label, whole.label[1:7])
    assert part.slice_index.tolist() == [1, 2, 3, 4, 5, 6]


def test_pre_training_reads_no_labels(path, arrays):
    table = read_slices(path, IMAGE_COLUMNS)
    assert set(table.column_names) == set(IMAGE_COLUMNS)
    batch = SliceBatch.from_arrow(table)
    assert (batch.image_hu.numpy() == arrays[0]).all()
    assert batch.label.shape == (N, 0, 0)


def test_a_batch_owns_its_memory(path):
    table = read_slices(path)
    batch = SliceBatch.from_arrow(table)
    batch.image_hu.zero_()
    assert SliceBatch.from_arrow(table).image_hu.any()


def test_selecting_and_joining_keep_rows_together(path):
    whole = SliceBatch.from_arrow(read_slices(path))
    index = torch.tensor([5, 0, 5, 69])
    part = whole.select(index)
    assert part.slice_index.tolist() == index.tolist()
    assert torch.equal(part.image_hu, whole.image_hu[index])
    assert torch.equal(part.label, whole.label[index])
    joined = SliceBatch.concatenate([part, whole.select(torch.tensor([7]))])
    assert joined.slice_index.tolist() == [5, 0, 5, 69, 7]
    assert torch.equal(joined.image_hu[4], whole.image_hu[7])
    assert len(joined.to(torch.device("cpu"))) == len(joined.case) == 5


def test_a_damaged_file_is_named(path):
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cannot read .*c\.parquet.*pixelglobal prepare` again; it keeps"):
        read_slices(path)


def names(store, seed, epoch, batch_size=4):
    stream = LocalStream(store, store.splits.pretrain, batch_size=batch_size, seed=seed)
    return [list(zip(b.case, b.slice_index.tolist(), strict=True)) for b in stream.epoch(epoch)]


def test_local_streams_are_a_function_of_seed_and_epoch(store):
    assert names(store, 0, 3) == names(store, 0, 3)
    assert names(store, 0, 3) != names(store, 0, 4)
    assert names(store, 0, 3) != names(store, 1, 3)
    everything = [slice_ for batch in names(store, 0, 0) for slice_ in batch]
    assert len(everything) == len(set(everything)) == store.n_slices(store.splits.pretrain)


def test_an_epoch_does_not_depend_on_those_before(store):
    stream = LocalStream(store, store.splits.pretrain, batch_size=4, seed=0)
    list(stream.epoch(0))
    after = [b.slice_index.tolist() for b in stream.epoch(2)]
    fresh = LocalStream(store, store.splits.pretrain, batch_size=4, seed=0)
    assert after == [b.slice_index.tolist() for b in fresh.epoch(2)]


def test_streamed_pixels_are_those_of_their_address(store):
    stream = LocalStream(store, store.splits.pretrain, batch_size=5, seed=0)
    batch = next(iter(stream.epoch(0)))
    for i, (case, index) in enumerate(zip(batch.case, batch.slice_index.tolist(), strict=True)):
        assert torch.equal(batch.image_hu[i], store.read_case(case).image_hu[index])


def test_the_last_short_batch_is_left_out(store):
    n = store.n_slices(store.splits.pretrain)
    assert [len(b) for b in names(store, 0, 0, batch_size=n - 1)] == [n - 1]
    assert names(store, 0, 0, batch_size=n + 1) == []


def test_an_empty_split_cannot_be_streamed(store):
    with pytest.raises(ValueError, match=r"no cases to stream from .*: the split is empty"):
        LocalStream(store, (), batch_size=4, seed=0)
