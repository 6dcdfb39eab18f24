"""Names and looks of methods: words, and a colour, dash and symbol each, assigned for whatever is on one page.

The colours can be told apart with every kind of colour vision: between any two the distance in CIELAB (Delta E of 1976)
is at least 15 after a simulation of protanopia or deuteranopia, and each has a contrast of 3:1 or more with its
background (both tested). Beyond twelve methods colours come again, with another dash and symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pixelglobal.config.registry import variants

# The first two belong to our method and to random initialisation; the others are taken in their order.
LIGHT = ("#1565b0", "#737b86", "#c17710", "#205543", "#675af2", "#5e2508",
         "#1095c1", "#c1765c", "#0f3548", "#875a1d", "#2f0c97", "#3713ec")  # fmt: skip
DARK = ("#62b0ff", "#8d96a1", "#d29b2d", "#0fb361", "#a921ed", "#936d1f",
        "#cbebfb", "#ede8ab", "#0a7b55", "#ecda13", "#ae42ae", "#f4e976")  # fmt: skip
DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2), (4, 1, 1, 1, 1, 1))  # lengths of line and gap in points
SYMBOLS = (("circle", "o"), ("square", "s"), ("triangle", "^"), ("diamond", "D"), ("star", "*"), ("wye", "v"),
           ("times", "X"))  # fmt: skip
FIXED = {"full": 0, "random": 1}
WORDS = {"random": "Random initialisation", "imagenet": "ImageNet weights", "go": "Global loss alone (GO)",
         "gp": "Global and pixel loss (GP)", "gpc": "With context stabiliser (GPC)",
         "full": "Pixel-global (ours)"}  # fmt: skip


def method_words(method: str) -> str:
    """The name of a method for readers, such as `Pixel-global (ours)` for full.

    >>> method_words("full"), method_words("full_hinge"), method_words("mine.py:MyMethod")
    ('Pixel-global (ours)', 'Pixel-global (ours), hinge', 'MyMethod')
    """
    labels = {name: variant.label for name, (_, variant) in variants().items()} | WORDS
    if method in labels:
        return labels[method]
    base, _, rest = method.partition("_")
    if base in labels and rest:
        return f"{labels[base]}, {rest.replace('_', ' ')}"
    return method.rpartition(":")[2]


@dataclass(frozen=True)
class Look:
    """How a method is named and drawn on one page."""

    method: str
    words: str
    number: int  # of its colour, among LIGHT and DARK
    dash: tuple[int, ...]
    symbol: str  # in the page
    marker: str  # in matplotlib

    @property
    def color(self) -> str:
        """On white."""
        return LIGHT[self.number]

    @property
    def line_style(self) -> Any:
        """Its dash for matplotlib."""
        return (0, self.dash) if self.dash else "-"

    def to_dict(self) -> dict[str, Any]:
        """For the scripts of the page."""
        return asdict(self)


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each method of a page; no two are alike, and the first twelve have colours of their own."""
    free = [n for n in range(len(LIGHT)) if n not in {FIXED[m] for m in methods if m in FIXED}]
    others = [method for method in methods if method not in FIXED]
    found = {}
    for method in methods:
        place = FIXED[method] if method in FIXED else len(FIXED) + others.index(method)
        number = FIXED[method] if method in FIXED else free[others.index(method) % len(free)]
        symbol, marker = SYMBOLS[place % len(SYMBOLS)]
        found[method] = Look(method, method_words(method), number, DASHES[place % len(DASHES)], symbol, marker)
    return found
