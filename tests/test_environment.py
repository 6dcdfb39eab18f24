"""What is written beside every result says which code ran, also where there is no git."""

import shutil

from pixelglobal import environment as room
from pixelglobal.environment import CHECKOUT, environment, git, source_hash


def test_the_environment_names_commit_versions_and_machine():
    facts = environment()
    assert facts["packages"]["torch"]
    assert facts["commit"] == git("rev-parse", "HEAD") or facts["commit"].startswith("source-")
    assert set(facts) >= {"commit", "uncommitted_changes", "source", "python", "device", "cpus"}


def test_a_copy_without_git_is_known_by_its_source(tmp_path, monkeypatch):
    here = source_hash()
    for folder in ("ssl/pixelglobal", "experiments"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(room, "CHECKOUT", tmp_path)
    monkeypatch.setattr(room, "__file__", str(tmp_path / "ssl/pixelglobal/environment.py"))
    assert environment()["commit"] == f"source-{here}"
    with (tmp_path / "experiments/tables.py").open("a") as file:
        file.write("# one more line\n")
    assert source_hash() != here
