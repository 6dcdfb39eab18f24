"""The folders import as docs/architecture.md says, read from the source; nothing is run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY, STUDIES = ROOT / "ssl" / "pixelglobal", ROOT / "experiments"
VAGUE_NAMES = {"utils", "util", "helpers", "common", "misc", "core", "base_utils", "tools", "stuff", "manager"}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 350, 60  # a docstring, which is to be whole, does not count


def sources(*folders):
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(LIBRARY.parent if path.is_relative_to(LIBRARY) else ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def folder_of(module):
    """Such as pixelglobal/views; a file that lies in no folder is one of its own."""
    package, *rest = module.split(".")
    return f"{package}/{rest[0]}" if rest else package


def imported(path):
    """Every module that a file names in an import, wherever it stands: also in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_module(name):
    place = (LIBRARY.parent if name.startswith("pixelglobal") else ROOT) / Path(*name.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def documented():
    """{folder: folders that it may import}, in the order of the table."""
    text = (ROOT / "docs" / "architecture.md").read_text().split("<!-- folders:begin -->")[1]
    lines = text.split("<!-- folders:end -->")[0].splitlines()
    rows = [line.split("|")[1:4] for line in lines if line.startswith("| `")]
    folders = [re.findall(r"`([^`]+)`", folder)[0] for folder, _, _ in rows]
    full = {folder.split("/")[1]: folder for folder in folders}
    return {
        folder: {full[name] for name in re.findall(r"`([^`]+)`", allowed)}
        for folder, (_, _, allowed) in zip(folders, rows, strict=True)
    }


def actual():
    """{folder: {folder that it imports: a file that does}}."""
    graph = {}
    for path in sources(LIBRARY, STUDIES):
        here = folder_of(module_of(path))
        for name in imported(path):
            if name.split(".")[0] in ("pixelglobal", "experiments") and is_module(name):
                there = folder_of(name)
                if there != here and "/" in there and "/" in here:
                    graph.setdefault(here, {})[there] = path.relative_to(ROOT)
        graph.setdefault(here, {})
    graph.pop("pixelglobal"), graph.pop("experiments")
    return graph


def test_the_table_names_every_folder_and_allows_only_what_stands_above():
    table = documented()
    assert set(table) == set(actual())
    order = list(table)
    for folder, allowed in table.items():
        assert all(order.index(name) < order.index(folder) for name in allowed), f"{folder} climbs"


def test_folders_import_what_the_table_allows_and_nothing_more():
    table, code = documented(), actual()
    wrong = [f"{path}: {here} imports {there}" for here in code for there, path in code[here].items()
             if there not in table[here]]  # fmt: skip
    assert not wrong, wrong
    unused = [f"{here} never imports {there}" for here in table for there in table[here] - code[here].keys()]
    assert not unused, unused


def test_the_package_itself_loads_only_its_version_and_the_api_when_asked():
    names = {name for name in imported(LIBRARY / "__init__.py") if name.startswith("pixelglobal.") and is_module(name)}
    assert names == {"pixelglobal.version", "pixelglobal.api"}


def test_only_the_cluster_and_the_tuner_import_ray():
    knowing = {
        path.relative_to(ROOT).as_posix()
        for path in sources(LIBRARY, STUDIES)
        if any(name.split(".")[0] == "ray" for name in imported(path))
    }
    outside = {name for name in knowing if not name.startswith("ssl/pixelglobal/cluster/")}
    assert outside == {"experiments/runner/tune.py"}


def test_statistics_and_tables_know_no_models_and_losses_no_files():
    for folder in ("statistics", "tables"):
        for path in sources(LIBRARY / folder):
            assert {"torch", "ray", "matplotlib"}.isdisjoint(name.split(".")[0] for name in imported(path)), path
    for path in [*sources(LIBRARY / "losses"), LIBRARY / "views/geometry.py", LIBRARY / "views/alignment.py"]:
        assert {"pathlib", "nibabel", "pandas"}.isdisjoint(imported(path)), path


def test_a_segmenter_is_trained_and_tested_without_any_method_of_pre_training():
    for name in ("training/finetune.py", "evaluation/ensemble.py", "evaluation/evaluate.py"):
        assert not any(module.startswith("pixelglobal.methods") for module in imported(LIBRARY / name)), name


def test_only_readers_of_formats_and_the_phantom_know_medical_files():
    formats = {"nibabel", "SimpleITK", "pydicom", "highdicom"}
    knowing = {module_of(p) for p in sources(LIBRARY) if any(n.split(".")[0] in formats for n in imported(p))}
    names = ("volumes", "nifti", "itk_formats", "dicom", "dicom_results", "layouts.dicom",
             "file_grid", "phantom")  # fmt: skip
    assert knowing == {f"pixelglobal.data.{name}" for name in names}


@pytest.mark.parametrize("path", sources(LIBRARY, STUDIES), ids=module_of)
def test_files_and_functions_have_one_idea(path):
    assert path.stem not in VAGUE_NAMES
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_OF_A_FILE, "two ideas in one file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documentation = node.body[0] if ast.get_docstring(node) else None
            documented_lines = documentation.end_lineno - documentation.lineno + 1 if documentation else 0
            assert node.end_lineno - node.lineno + 1 - documented_lines <= LINES_OF_A_FUNCTION, node.name


def test_the_walks_name_files_that_exist_and_never_climb():
    order = [folder.split("/")[1] for folder in documented()]
    walks = (ROOT / "docs" / "architecture.md").read_text().split("## Three walks")[1].split("## Promises")[0]
    for walk in walks.split("**One ")[1:]:
        names = [re.findall(r"`([a-z_]+/[a-z_]+\.py)`", row.split("|")[2]) for row in walk.splitlines() if "|" in row]
        files = [name for row in names for name in row]
        assert len(files) >= 5
        assert all((LIBRARY / name).is_file() or (STUDIES / name).is_file() for name in files), files
        places = [order.index(name.split("/")[0]) for name in files]
        assert places == sorted(places), files
