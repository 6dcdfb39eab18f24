"""What is written beside every result says which code ran, also where there is no git."""

import shutil

from typer.testing import CliRunner

import experiments
from experiments import FOLDER
from pixelglobal import environment as module
from pixelglobal.cli import app
from pixelglobal.environment import CHECKOUT, LIBRARY, environment, git, source_hash


def test_the_environment_names_commit_versions_and_machine():
    facts = environment()
    assert facts["packages"]["torch"]
    assert facts["commit"] == git("rev-parse", "HEAD") or facts["commit"].startswith("source-")
    assert set(facts) >= {"commit", "uncommitted_changes", "source", "python", "device", "cpus"}


def test_a_copy_without_git_is_known_by_its_source(tmp_path, monkeypatch):
    here = source_hash([FOLDER])
    for folder in (LIBRARY, FOLDER):
        place = tmp_path / folder.relative_to(CHECKOUT)
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setattr(module, "LIBRARY", tmp_path / "ssl/pixelglobal")
    copy = tmp_path / "experiments"
    assert environment([copy])["commit"] == f"source-{here}"
    assert source_hash() != here  # the library alone
    for changed in (copy / "__main__.py", tmp_path / "ssl/pixelglobal/files.py"):
        before = source_hash([copy])
        with changed.open("a") as file:
            file.write("# one more line\n")
        assert source_hash([copy]) != before


def test_the_doctor_prints_the_hash_that_results_have(monkeypatch):
    assert FOLDER.samefile(experiments.__path__[0])
    monkeypatch.chdir(CHECKOUT)
    answer = CliRunner().invoke(app, ["doctor"])
    assert f"source       {source_hash([FOLDER])}" in answer.output
