"""Slices: what is written is what is read, whatever the batch was cut from."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pixelglobal.data.slices import (
    ROWS_PER_GROUP,
    SliceBatch,
    images_of,
    read_images,
    read_slices,
    schema,
    write_slices,
)

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
    assert groups == [16, 16, 16, 16, 6]
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


@pytest.mark.parametrize("rows_per_group", [ROWS_PER_GROUP, 64])
def test_some_images_are_read_of_a_file_of_this_version_or_an_older_one(path, arrays, rows_per_group):
    pq.write_table(read_slices(path), path, row_group_size=rows_per_group)
    for first, n in ((0, 16), (64, 6), (16, 1), (10, 30), (0, N)):
        assert (images_of(read_images(path, first, n), SIDE) == arrays[0][first : first + n]).all()


def test_a_file_with_too_few_slices_is_named(path):
    with pytest.raises(ValueError, match=r"cannot read .*c\.parquet: it has 70 slices, and 80 are in cases\.csv"):
        read_images(path, 64, 16)


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
    with pytest.raises(ValueError, match=r"cannot read .*c\.parquet.*pixelglobal prepare` again; it keeps"):
        read_images(path, 0, 16)
