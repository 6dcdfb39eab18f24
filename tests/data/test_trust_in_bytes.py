"""Every file of a store is known by its digest: a damaged one is named, and only its case is made anew."""

import shutil
import subprocess

import pytest

from pixelglobal.data.prepare import prepare
from pixelglobal.data.slices import read_slices
from pixelglobal.data.store import Store


@pytest.fixture
def copy(store, tmp_path):
    return shutil.copytree(store.root, tmp_path / "store")


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_the_digests_are_those_of_sha256sum(copy):
    """And every file of the store has one."""
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=copy, check=True)
    named = {line.split("  ")[1] for line in (copy / "SHA256SUMS").read_text().splitlines()}
    assert named | {"SHA256SUMS"} == {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["slices/{}.parquet", "labels/{}.nii.gz", "records/{}.json"])
@pytest.mark.parametrize("where", [0.02, 0.4, 0.99])
def test_a_flipped_byte_of_a_case_makes_that_case_anew_and_no_other(phantom_folder, copy, tiny, name, where):
    path = copy / name.format("phantom_002")
    before = {p: p.stat().st_mtime_ns for p in copy.glob("slices/*")}
    whole = path.read_bytes()
    flip(path, int(len(whole) * where))
    made = prepare(phantom_folder, copy, tiny.prepare).store
    assert path.read_bytes() == whole
    anew = [p.stem for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert anew == ["phantom_002"]
    assert "phantom_002 was not what was written, or was not finished, and was made anew" in made.notes


def test_lost_labels_are_made_anew(phantom_folder, copy, tiny):
    (copy / "labels/phantom_001.nii.gz").unlink()
    prepare(phantom_folder, copy, tiny.prepare)
    assert (copy / "labels/phantom_001.nii.gz").is_file()


@pytest.mark.parametrize("name", ["cohort.json", "cases.csv", "splits.json"])
def test_a_damaged_description_of_a_store_is_named_when_it_is_opened(copy, name):
    flip(copy / name, -4)
    with pytest.raises(ValueError, match=rf"{name} is not what SHA256SUMS says: it was damaged or edited\. Run"):
        Store.open(copy)


def test_a_damaged_division_is_not_made_anew_in_silence(phantom_folder, copy, tiny):
    flip(copy / "splits.json", -4)
    with pytest.raises(ValueError, match=r"splits\.json is not what SHA256SUMS says.*Restore it from a copy"):
        prepare(phantom_folder, copy, tiny.prepare)


def test_damaged_slices_are_found_while_they_are_read(copy):
    """Pages by their checksum, which streams compare too; the rest of the file by its digest."""
    store, path = Store.open(copy), copy / "slices/phantom_000.parquet"
    for position in (int(path.stat().st_size * 0.3), -30):
        flip(path, position)
        with pytest.raises(ValueError, match=r"phantom_000\.parquet is not what SHA256SUMS says"):
            store.read_case("phantom_000")
        if position > 0:
            with pytest.raises(ValueError, match=r"cannot read .*phantom_000\.parquet"):
                read_slices(path)
        flip(path, position)
    assert len(store.read_case("phantom_000")) == 8


def test_a_store_of_an_older_version_is_kept_and_gets_its_digests(phantom_folder, copy, tiny):
    (copy / "SHA256SUMS").unlink()
    before = {p: p.stat().st_mtime_ns for p in copy.glob("slices/*")}
    prepare(phantom_folder, copy, tiny.prepare)
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=copy, check=True)
