"""What outsiders get: a wheel with the library alone, locks that agree, and a command for every marker."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pandas as pd
import pytest

from pixelglobal import __version__
from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which a wheel of this checkout was unpacked, as pip would."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("ssl", "experiments", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=skipped)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    answer = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    folder = tmp_path_factory.mktemp("site-packages")
    zipfile.ZipFile(copy / "dist" / answer.stdout.split()[-1]).extractall(folder)
    return folder


def test_the_wheel_has_the_library_alone_and_all_of_it(installed):
    assert {path.name for path in installed.iterdir()} == {"pixelglobal", f"pixelglobal-{__version__}.dist-info"}
    source = ROOT / "ssl/pixelglobal"
    wanted = [*source.rglob("*.py"), *source.rglob("*.csv"), *source.rglob("*.j2"), source / "py.typed"]
    there = {str(path.relative_to(installed)) for path in installed.rglob("pixelglobal/**/*") if path.is_file()}
    assert there == {str(path.relative_to(ROOT / "ssl")) for path in wanted}
    assert {"pixelglobal/tables/paper/paper_tables.csv", "pixelglobal/py.typed"} <= there


def test_what_was_installed_runs_without_the_checkout(installed, tmp_path):
    rows = [(method, f"c{i}", "A", 0.5 + i / 40) for method in "ab" for i in range(6)]
    pd.DataFrame(rows, columns=["method", "case", "structure", "dice"]).to_csv(tmp_path / "rows.csv")
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if not p.startswith(sys.argv[1])]\n"
        "import pixelglobal; print(pixelglobal.__file__)\n"
        "from pixelglobal.tables import paper; print(paper.__file__)\n"
        "sys.argv[1:] = ['significance', '--rows', 'rows.csv', '--reference', 'a']\n"
        "from pixelglobal.cli import main; main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "ssl")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    library, tables = answer.stdout.splitlines()[:2]
    assert library == str(installed / "pixelglobal/__init__.py")
    assert tables == str(installed / "pixelglobal/tables/paper.py")
    assert "Significance." in answer.stdout


def specifiers_of(requirements):
    """The wanted versions by normalised name: `{"types-pyyaml": "", "ray": ">=2.60.0"}`."""
    parts = (re.fullmatch(r"([\w.-]+?)(?:\[.*\])?([<>=!~].*)?", text).groups() for text in requirements)
    return {name.lower().replace("_", "-"): specifier or "" for name, specifier in parts}


def test_both_locks_hold_the_same_versions_of_what_the_project_needs():
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    versions = {(package["name"], package["version"]) for package in locked if package["name"] != "pixelglobal"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert {tuple(line.split("==")) for line in lines} == versions
    (project,) = (package for package in locked if package["name"] == "pixelglobal")
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *(text for extra in extras.values() for text in extra)]
    known = {wanted["name"]: wanted.get("specifier", "") for wanted in project["metadata"]["requires-dist"]}
    assert known == specifiers_of(needed), "run: make lock"


def test_every_marker_has_a_command_that_the_guide_names():
    markers = [line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    guide, makefile = (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^([\w -]+):", makefile, re.M) for name in line.split()}
    for marker in markers:
        assert f"| `{marker}` |" in guide
        assert f"`make {marker}`" in guide
        assert marker in targets
    for target in re.findall(r"^# make (\w+)", makefile, re.M):
        assert target in targets


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{__version__}] - " in (ROOT / "CHANGELOG.md").read_text()
