"""Pictures of a study, as SVG text that goes into one page and as files: curves, patients, overlays, uncertainty.

Slices are shown as radiologists see them: the patient's right on the left side of the picture, the front at the top.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

matplotlib.use("Agg")


WINDOW_HU = (-160.0, 240.0)  # a soft-tissue window


INK = "#1a1d22"  # text and axes; the page shows this one colour in its own text colour, light or dark


GREY = "#8b949e"  # seen on white and on black


# Bright, since they lie over grey CT.
STRUCTURE_COLORS: tuple[str, ...] = ("#ff5c5c", "#4dc3ff", "#7dff6b", "#ffd23f", "#ff8cf0", "#b18cff")


STRUCTURE_COLORS += ("#ff9e45", "#2ef0d0", "#c8ff3d", "#ffb3b3", "#8fb4ff", "#ffffff")


STYLE: Any = {
    "text.parse_math": False,  # a `$` in a case name is a `$`
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GREY,
    "font.size": 9,
    "legend.frameon": False,
}


PRINT: Any = STYLE | {
    "font.size": 8,  # points at the size of print, for a column of 8.5 cm or a page of 17.5 cm
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,  # TrueType, which journals and editors of figures can read
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
}
SINGLE_CM, DOUBLE_CM = 8.5, 17.5  # widths of a column and of a page


@contextmanager
def print_style() -> Iterator[None]:
    """Text of 8 points at the size of print, and TrueType fonts in PDF."""
    with plt.rc_context(PRINT):
        yield


@contextmanager
def house_style() -> Iterator[None]:
    with plt.rc_context(STYLE):
        yield


@dataclass(frozen=True)
class Curve:
    """The log of one training: lines of metrics.jsonl."""

    method: str
    seed: int
    lines: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Overlay:
    """One slice with the reference and every method's prediction; structures[i] has label i + 1."""

    case: str
    slice_index: int
    image_hu: np.ndarray  # [H, W], rows from back to front, columns from the patient's left to right
    pixel_aspect: float  # height over width of a pixel
    reference: np.ndarray  # [H, W]
    predictions: Mapping[str, np.ndarray]
    structures: Sequence[str]


def svg(figure: Figure) -> str:
    """The figure as an SVG element and the figure closed; its text stays text, its white ground has id "background"."""
    figure.patch.set(gid="background", facecolor="white")
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pixelglobal"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


@house_style()
def draw_overlays(overlays: Sequence[Overlay]) -> Figure:
    """The paper's Figure 3: one row a slice; the CT, the reference, then every method, zoomed to what is contoured.

    Under each method its mean 2-D DSC on this slice, over the structures that it or the reference has there.
    """
    if not overlays:
        raise ValueError("there is no slice to draw: expected at least one overlay; were the predictions kept?")
    methods = list(overlays[0].predictions)
    columns = ["CT", "reference", *methods]
    figure, axes = plt.subplots(
        len(overlays),
        len(columns),
        figsize=(2.1 * len(columns), 2.3 * len(overlays) + 0.4),
        layout="constrained",
        squeeze=False,
    )
    for row, overlay in zip(axes, overlays, strict=True):
        box = _box_of_labels(overlay)
        shown = {"CT": np.zeros_like(overlay.reference), "reference": overlay.reference, **overlay.predictions}
        for axis, name in zip(row, columns, strict=True):
            show_ct(axis, overlay.image_hu[box], overlay.pixel_aspect)
            draw_labels(axis, shown[name][box], len(overlay.structures))
            if name in overlay.predictions:
                axis.set_xlabel(_score(shown[name], overlay.reference, len(overlay.structures)), fontsize=8, labelpad=2)
        row[0].set_ylabel(f"{overlay.case}\nslice {overlay.slice_index}", fontsize=7)
        mark_sides(row[0])
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    handles = [
        Line2D([], [], color=STRUCTURE_COLORS[c % len(STRUCTURE_COLORS)], lw=4, label=s)
        for c, s in enumerate(overlays[0].structures)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, handlelength=1)
    return figure


def show(axis: Any, image: np.ndarray, aspect: float, colors: str, limits: tuple[float, float]) -> Any:
    """An image [H, W] with the patient's right on the left; its own pixels, so that files stay sharp and small."""
    low, high = limits
    flipped = image[:, ::-1]
    shown = axis.imshow(flipped, cmap=colors, vmin=low, vmax=high, origin="lower", aspect=aspect, interpolation="none")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return shown


def show_ct(axis: Any, image_hu: np.ndarray, aspect: float) -> None:
    show(axis, image_hu, aspect, "gray", WINDOW_HU)


def draw_labels(axis: Any, labels: np.ndarray, n_structures: int) -> None:
    """Each structure as a thin fill and a contour; a rim of background closes contours at the picture's edge."""
    flipped = np.pad(labels[:, ::-1], 1)
    across, along = np.arange(flipped.shape[1]) - 1, np.arange(flipped.shape[0]) - 1
    for c in range(n_structures):
        mask = flipped == c + 1
        if mask.any():
            color = STRUCTURE_COLORS[c % len(STRUCTURE_COLORS)]
            fill = np.ma.masked_equal(mask[1:-1, 1:-1], False)
            axis.imshow(fill, cmap=ListedColormap([color]), alpha=0.25, origin="lower", aspect=axis.get_aspect(),
                        interpolation="none")  # fmt: skip
            axis.contour(across, along, mask, levels=[0.5], colors=[color], linewidths=1.2)
    axis.set(xlim=(-0.5, labels.shape[1] - 0.5), ylim=(-0.5, labels.shape[0] - 0.5))


def _box_of_labels(overlay: Overlay) -> tuple[slice, slice]:
    """Rows and columns around everything that anyone contoured, at least 40 % of the picture each way."""
    anything = np.any([overlay.reference > 0, *(p > 0 for p in overlay.predictions.values())], axis=0)
    if not anything.any():
        return slice(None), slice(None)
    spans = []
    for along, size in zip((anything.any(1), anything.any(0)), anything.shape, strict=True):
        inside = np.flatnonzero(along)
        width = min(size, max(round(1.25 * (inside[-1] - inside[0] + 1)), round(0.4 * size)))
        spans.append((int(inside[0] + inside[-1] + 1) / 2, width))
    (middle_row, rows), (middle_column, columns) = spans
    side = max(rows * overlay.pixel_aspect, columns)  # in widths of a pixel, so that every panel is square
    box = []
    for middle, width, size in (
        (middle_row, round(side / overlay.pixel_aspect), anything.shape[0]),
        (middle_column, round(side), anything.shape[1]),
    ):
        width = min(width, size)
        start = min(max(0, round(middle - width / 2)), size - width)
        box.append(slice(start, start + width))
    return box[0], box[1]


def _score(labels: np.ndarray, reference: np.ndarray, n_structures: int) -> str:
    """Mean 2-D DSC as printed under a panel."""
    scores = []
    for c in range(1, n_structures + 1):
        sizes = np.count_nonzero(labels == c) + np.count_nonzero(reference == c)
        if sizes:
            scores.append(2 * np.count_nonzero((labels == c) & (reference == c)) / sizes)
    return f"DSC {100 * np.mean(scores):.1f} %" if scores else "nothing here"


def mark_sides(axis: Any) -> None:
    """R and L of the patient at the sides of a slice."""
    for x, letter in ((0.03, "R"), (0.97, "L")):
        axis.text(x, 0.5, letter, transform=axis.transAxes, color="white", fontsize=8, ha="center", va="center",
                  fontweight="bold")  # fmt: skip
