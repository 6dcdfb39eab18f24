"""Files and folders are written whole or not at all: through kills, full and locked disks, and several writers."""

import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from pixelglobal import files
from pixelglobal.files import (
    WriteError,
    claim_folder,
    digest_of,
    read_json_object,
    write_file,
    write_folder,
    write_json,
)
from tests.support import ROOT

REFUSAL = r"cannot write {}: {}.*What was there before is intact\. Free space on the disk, or give a folder that can be"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"new", "new", lambda path: path.write_text("new")])
def test_a_file_is_written_and_replaced(tmp_path, content):
    path = tmp_path / "made" / "on demand" / "a.txt"
    for _ in range(2):
        assert write_file(path, content) == path
        assert path.read_text() == "new"
        assert names(path.parent) == ["a.txt"]


def test_a_function_that_writes_is_given_the_ending_of_the_file(tmp_path):
    rows = pd.DataFrame({"a": [1, 2]})
    pd.testing.assert_frame_equal(pd.read_parquet(write_file(tmp_path / "a.parquet", rows.to_parquet)), rows)
    write_file(tmp_path / "a.npy", lambda path: np.save(path, np.arange(3)))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_json_is_read_as_it_was_written_and_what_is_none_is_named(tmp_path):
    facts = {"a": [1, 2.5, None], "b": {"c": "é"}}
    assert read_json_object(write_json(tmp_path / "a.json", facts)) == facts
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert read_json_object(tmp_path / "a.json") == facts
    for content, message in ((b"{", "is not valid JSON"), (b"[1]", "holds a JSON list"), (b"\xff", "cannot be read")):
        (tmp_path / "b.json").write_bytes(content)
        with pytest.raises(ValueError, match=rf"b\.json: {message}"):
            read_json_object(tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"c\.json: cannot be read"):
        read_json_object(tmp_path / "c.json")


def test_a_folder_appears_when_it_is_full_and_takes_the_old_one_s_place(tmp_path):
    folder = tmp_path / "made" / "model"
    with write_folder(folder) as new:
        (new / "a").write_text("1")
        (new / "inside").mkdir()
        (new / "inside" / "b").write_text("2")
        assert not folder.exists()
    assert names(folder) == ["a", "inside"]
    with write_folder(folder) as new:
        (new / "c").write_text("3")
        assert names(folder) == ["a", "inside"]
    assert names(folder) == ["c"]
    assert names(folder.parent) == ["model"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    def fails(path):
        path.write_text("half")
        raise RuntimeError("no more")

    write_file(tmp_path / "a", "old")
    with pytest.raises(RuntimeError, match="no more"):
        write_file(tmp_path / "a", fails)
    with write_folder(tmp_path / "b") as new:
        (new / "old").touch()
    with pytest.raises(RuntimeError, match="no more"), write_folder(tmp_path / "b") as new:
        fails(new / "new")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path / "b") == ["old"]
    assert names(tmp_path) == ["a", "b"]


def test_an_error_that_has_nothing_to_do_with_writing_is_not_called_so(tmp_path):
    with pytest.raises(FileNotFoundError), write_folder(tmp_path / "b"):
        (tmp_path / "not there").read_text()


def test_content_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """Else a power failure can leave a name with nothing behind it."""
    seen, real = [], os.fsync

    def fsync(descriptor):
        seen.append((tmp_path / "a").exists())
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_file(tmp_path / "a", "new")
    assert seen == [False, True]  # the file, then the folder that has its name
    (tmp_path / "a").unlink()
    seen.clear()
    with write_folder(tmp_path / "a") as new:
        (new / "x").touch()
        (new / "y").touch()
    assert seen == [False] * 3 + [True]


KILLED = {
    "file": "write_file(target, lambda path: (path.write_text('new'), wait()))",
    "folder": "with write_folder(target) as new:\n    (new / 'content').write_text('new')\n    wait()",
}


@pytest.mark.parametrize("what", KILLED)
def test_a_process_that_is_killed_after_writing_leaves_the_old_content(tmp_path, what):
    target = tmp_path / "target"
    if what == "file":
        write_file(target, "old")
        content = target
    else:
        with write_folder(target) as new:
            (new / "content").write_text("old")
        content = target / "content"
    code = (
        "import sys, time; from pathlib import Path; from pixelglobal.files import write_file, write_folder\n"
        "target = Path(sys.argv[1])\n"
        "def wait(): print('written', flush=True); time.sleep(60)\n" + KILLED[what]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "ssl")}
    process = subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert content.read_text() == "old"
    left = [name for name in names(tmp_path) if name != "target"]
    assert all(name.startswith(".partial-") for name in left)
    assert left  # it was killed between writing and renaming, and so this test tests something


def _write_on_a_small_disk(folder, answers):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # every longer file fails to be written
    for write in (_large_file, _large_table, _large_folder):
        try:
            write(folder)
        except WriteError as error:
            answers.put(str(error))
        else:
            answers.put("written")


def _large_file(folder):
    write_file(folder / "a.txt", "x" * 5000)


def _large_table(folder):
    write_file(folder / "a.parquet", pd.DataFrame({"a": np.random.default_rng(0).random(5000)}).to_parquet)


def _large_folder(folder):
    with write_folder(folder / "b") as new:
        write_file(new / "a.txt", "x" * 5000)


def test_a_full_disk_is_a_sentence_and_nothing_is_lost(tmp_path):
    write_file(tmp_path / "a.txt", "old")
    with write_folder(tmp_path / "b") as new:
        (new / "old").touch()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_write_on_a_small_disk, args=(tmp_path, answers))
    process.start()
    said = [answers.get(timeout=60) for _ in range(3)]
    process.join()
    for name, text in zip((r"\S*a\.txt", r"\S*a\.parquet", r"\S*/a\.txt"), said, strict=True):
        assert re.match(REFUSAL.format(name, ""), text)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path / "b") == ["old"]
    assert names(tmp_path) == ["a.txt", "b"]


def test_a_folder_that_may_not_be_written_to_is_a_sentence(tmp_path):
    write_file(tmp_path / "a", "old")
    tmp_path.chmod(0o555)
    before = os.geteuid()
    os.seteuid(65534 if before == 0 else before)  # root may write everywhere
    try:
        with pytest.raises(WriteError, match=REFUSAL.format(r"\S*/a", "Permission denied")):
            write_file(tmp_path / "a", "new")
        with (
            pytest.raises(WriteError, match=REFUSAL.format(r"\S*/b", "Permission denied")),
            write_folder(tmp_path / "b"),
        ):
            pass
    finally:
        os.seteuid(before)
        tmp_path.chmod(0o755)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def _write_again_and_again(target, letter, as_folder):
    for _ in range(100):
        if as_folder:
            with write_folder(target) as new:
                (new / "1").write_text(letter)
                (new / "2").write_text(letter)
        else:
            write_file(target, letter * 100_000)


@pytest.mark.parametrize("as_folder", [False, True])
def test_of_two_writers_one_wins_and_nobody_reads_a_mixture(tmp_path, as_folder):
    context = multiprocessing.get_context("spawn")
    target = tmp_path / "target"
    writers = [context.Process(target=_write_again_and_again, args=(target, letter, as_folder)) for letter in "ab"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if target.is_file():
            seen.add(target.read_text())
        time.sleep(0.001)
    assert [writer.exitcode for writer in writers] == [0, 0]
    if as_folder:
        assert (target / "1").read_text() == (target / "2").read_text()
    else:
        assert seen <= {"a" * 100_000, "b" * 100_000}
        assert seen
    assert names(tmp_path) == ["target"]


def test_a_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


FACTS = {"seed": 0, "size": (1, 2), "pretrain": {"epochs": 3, "compile": False}, "cluster": {"workers": 1}}


def test_a_folder_is_claimed_by_the_same_facts_alone(tmp_path):
    def claim(folder=tmp_path / "run", ignored=("cluster", "pretrain.compile"), **changes):
        claim_folder(folder, "facts.json", {**FACTS, **changes}, contents="run", ignored=ignored)

    claim()
    claim()
    assert json.loads((tmp_path / "run/facts.json").read_text())["size"] == [1, 2]
    (tmp_path / "run/result").touch()
    claim(cluster={"workers": 5}, pretrain={"epochs": 3, "compile": True})
    assert json.loads((tmp_path / "run/facts.json").read_text())["cluster"] == {"workers": 5}
    with pytest.raises(
        ValueError,
        match=r"run holds a run with other settings \(seed=0 there, 1 now; pretrain\.epochs=3 there, 4 now\); choose",
    ):
        claim(seed=1, pretrain={"epochs": 4, "compile": False})
    with pytest.raises(ValueError, match=r"cluster\.workers=5 there, 1 now"):
        claim(ignored=())
    (tmp_path / "empty").mkdir()
    claim(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(ValueError, match=f"{name} exists and is no run of this program; choose an empty or a new"):
            claim(tmp_path / name)
    (tmp_path / "run/facts.json").write_text("{")
    with pytest.raises(ValueError, match=r"facts\.json: is not valid JSON"):
        claim()
