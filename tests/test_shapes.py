"""Shapes in signatures: checked while tests run, free otherwise, and written in letters that mean one thing each."""

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from pixelglobal.config.schema import Views
from pixelglobal.losses.consistency import targets
from pixelglobal.networks.uncertainty import entropy
from pixelglobal.networks.unet import pixels_of
from pixelglobal.seeds import generator
from pixelglobal.statistics.paired import means_by
from pixelglobal.views.augment import draw_views
from pixelglobal.views.geometry import to_view

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "ssl" / "pixelglobal"
MODULES = {str(path.relative_to(LIBRARY)): path.read_text() for path in sorted(LIBRARY.rglob("*.py"))}
PACKAGES = ("views", "losses", "networks", "statistics")
ANNOTATED = {name: text for name, text in MODULES.items() if name.split("/")[0] in PACKAGES}
SHAPE = re.compile(r'\[(?:Tensor|np\.ndarray)(?: \| np\.\w+)?, "([^"]*)"\]')


def words_of(shape):
    """The letters and words in a shape, without its numbers and the names of arguments in braces."""
    return set(re.findall(r"[A-Za-z]\w*", re.sub(r"\{[^}]*\}", "", shape)))


def legend():
    rows = re.findall(r"^\| ([A-Za-z]) \| ([^|]+) \|", (ROOT / "docs/reference/letters.md").read_text(), re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a letter stands twice"
    assert len({meaning for _, meaning in rows}) == len(rows), "a meaning has two letters"
    return dict(rows)


def letters_at_the_top(text):
    """What a module's docstring says of its letters."""
    paragraph = re.search(r"Shape letters: ([^.]*)\.", ast.get_docstring(ast.parse(text)) or "")
    return dict(entry.split(" ", 1) for entry in " ".join(paragraph[1].split()).split(", ")) if paragraph else {}


@pytest.mark.parametrize(
    "call",
    [
        lambda: to_view(torch.zeros(2, 2, 3), torch.zeros(3, 5, 2)),
        lambda: targets(torch.zeros(4, 6), torch.zeros(5), 0.1),
        lambda: pixels_of(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([0, 1, 2])),
        lambda: entropy(torch.ones(3, dtype=torch.long)),
        lambda: means_by(np.zeros(3), np.zeros(2)),
        lambda: replace(draw_views(2, Views(crop_size=32), 64, generator(0)), contrast=torch.ones(3)),
    ],
    ids=["views", "losses", "networks", "an integer for a number", "statistics", "a field of a dataclass"],
)
def test_a_wrong_shape_raises_while_tests_run(call):
    with pytest.raises(TypeCheckError):
        call()


def test_outside_the_tests_nothing_is_checked_or_wrapped():
    code = (
        "import sys, pixelglobal.losses.consistency as losses, pixelglobal.views.pairs as views;"
        "assert not hasattr(losses.targets, '__wrapped__') and not hasattr(views.make_view_pair, '__wrapped__');"
        "assert 'beartype' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "ssl", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def annotations(node):
    for part in ast.walk(node):
        if isinstance(part, ast.arg) and part.arg != "like":  # of which only precision and device matter
            yield part.annotation
        elif isinstance(part, ast.FunctionDef):
            yield part.returns
    for part in (p for p in ast.walk(node) if isinstance(p, ast.ClassDef)):
        yield from (field.annotation for field in part.body if isinstance(field, ast.AnnAssign))


@pytest.mark.parametrize("name", ANNOTATED)
def test_arrays_show_their_shapes(name):
    for annotation in filter(None, annotations(ast.parse(ANNOTATED[name]))):
        without_shapes = SHAPE.sub("", ast.unparse(annotation).replace("'", '"'))
        assert not re.search(r"\bTensor\b|\bndarray\b|\bNDArray\b", without_shapes), (
            f"{name}:{annotation.lineno} has no shape"
        )


@pytest.mark.parametrize("name", MODULES)
def test_letters_mean_what_the_legend_says(name):
    text, meanings = MODULES[name], legend()
    at_the_top = letters_at_the_top(text)
    assert at_the_top == {letter: meanings.get(letter) for letter in at_the_top}
    in_signatures = {word for shape in SHAPE.findall(text) for word in words_of(shape) if len(word) == 1}
    assert in_signatures <= at_the_top.keys(), f"{name} does not say what its letters mean"
    suffixes = {letter for name_ in re.findall(r"\b_?[a-z]\w*_([A-Z]{1,3})\b", text) for letter in name_}
    in_brackets = re.findall(r"\[[A-Za-z0-9*+/ ]+(?:, [A-Za-z0-9*+/ ]+)*\]", prose_of(text))
    in_prose = {letter for shape in in_brackets for letter in re.findall(r"\b\d*([A-Z])\b", shape)}
    assert suffixes | in_prose <= meanings.keys()


def prose_of(text):
    """Docstrings and comments."""
    nodes = (n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    comments = re.findall(r"#.*", text)
    return "\n".join([*(ast.get_docstring(node) or "" for node in nodes), *comments])


def test_every_letter_is_used():
    assert {letter for text in MODULES.values() for letter in letters_at_the_top(text)} == legend().keys()
