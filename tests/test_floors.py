"""Imports point down only: read from the source, nothing is run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "ssl" / "pixelglobal"
FLOORS = [
    {"sections", "presets", "config", "seeds", "geometry", "alignment", "losses", "contrastive"}
    | {"uncertainty", "collapse", "devices", "environment", "metrics", "optim"},
    {"volumes", "cohorts", "phantom", "slices", "store", "runs", "views", "networks", "checkpoints", "mc_dropout"},
    {"methods.method"},
    {"methods.pixel_global", "methods.gl", "methods.pgl"},
    {"methods.dino", "methods.simclr", "methods.byol"},
    {"prepare", "watch", "pretrain", "finetune", "predict", "evaluate"},
    {"cluster.data", "cluster.train", "cluster.prepare", "doctor", "cli"},
]
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
# The few steps on one floor, from a room to the one it furnishes.
NEIGHBOURS = {
    ("config", "sections"),
    ("config", "presets"),
    ("optim", "config"),
    ("mc_dropout", "networks"),
    ("collapse", "uncertainty"),
    ("uncertainty", "devices"),
    ("alignment", "geometry"),
    ("runs", "slices"),
    ("store", "slices"),
    ("store", "cohorts"),
    ("pretrain", "watch"),
    ("predict", "finetune"),
    ("evaluate", "finetune"),
    ("evaluate", "predict"),
    ("cluster.train", "cluster.data"),
    ("cli", "cluster.train"),
    ("cli", "cluster.prepare"),
    ("cli", "doctor"),
}
FORBIDDEN = ("utils", "helpers", "common", "misc")


def sources(folder):
    return [p for p in folder.rglob("*.py") if p.name != "__init__.py"]


def module_of(path):
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_a_floor():
    assert {module_of(p) for p in sources(LIBRARY)} == set(FLOOR)


@pytest.mark.parametrize("path", sources(LIBRARY), ids=module_of)
def test_imports_point_down(path):
    here = module_of(path)
    for name in imported(path):
        there = name.removeprefix("pixelglobal.")
        if name.startswith("pixelglobal.") and there in FLOOR:
            below = FLOOR[there] < FLOOR[here]
            assert below or (here, there) in NEIGHBOURS, f"{here} (floor {FLOOR[here]}) imports {there}"


def test_the_library_does_not_know_the_studies():
    for path in sources(LIBRARY):
        assert not any(name.split(".")[0] == "experiments" for name in imported(path)), path


def test_only_the_cluster_rooms_know_ray():
    knowing = {
        str(p.relative_to(ROOT))
        for p in [*sources(LIBRARY), *sources(ROOT / "experiments")]
        if any(name.split(".")[0] == "ray" for name in imported(p))
    }
    inside = {k for k in knowing if k.startswith("ssl/pixelglobal/cluster/")}
    assert knowing - inside <= {"ssl/pixelglobal/cli.py", "experiments/grid.py", "experiments/resources.py"}


def test_statistics_know_no_models_and_losses_no_files():
    heavy = {"torch", "pixelglobal", "ray"}
    for name in ("stats.py", "tables.py"):
        assert heavy.isdisjoint(n.split(".")[0] for n in imported(ROOT / "experiments" / name))
    for name in ("losses.py", "contrastive.py", "alignment.py", "geometry.py"):
        assert {"pathlib", "nibabel", "pandas"}.isdisjoint(imported(LIBRARY / name))


def test_only_volumes_and_the_phantom_read_and_write_medical_files():
    knowing = {module_of(p) for p in sources(LIBRARY) if any(n.split(".")[0] == "nibabel" for n in imported(p))}
    assert knowing == {"volumes", "phantom"}


def test_no_drawers_and_no_endless_files():
    for path in [*sources(LIBRARY), *sources(ROOT / "experiments")]:
        assert path.stem not in FORBIDDEN
        assert len(path.read_text().splitlines()) <= 350, f"{path} has two ideas"


def test_no_endless_functions():
    for path in [*sources(LIBRARY), *sources(ROOT / "experiments")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno <= 70, f"{path}: {node.name}"
