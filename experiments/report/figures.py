"""Pictures of a study, as SVG text that goes into one page and as files: curves, patients, overlays, uncertainty.

Slices are shown as radiologists see them: the patient's right on the left side of the picture, the front at the top.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pixelglobal.config.registry import variants

matplotlib.use("Agg")


WINDOW_HU = (-160.0, 240.0)  # a soft-tissue window


INK = "#1a1d22"  # text and axes; the page shows this one colour in its own text colour, light or dark


GREY = "#8b949e"  # seen on white and on black


# After Okabe and Ito, as the methods' own colours are; a method has one colour in every figure.
STUDY_COLORS = {
    "random": "#8b949e", "imagenet": "#6a3d9a",
    "gpc_printed": "#66c2a5", "gpc_detached": "#b3de69", "gpc_hinge": "#009e73",
    "full_printed": "#80b1d3", "full_detached": "#bebada", "full_hinge": "#1a80bb",
}  # fmt: skip
OTHER_COLORS = ("#a6761d", "#7570b3", "#66a61e", "#e7298a")  # of methods that have none above, in order


# Bright, since they lie over grey CT.
STRUCTURE_COLORS: tuple[str, ...] = ("#ff5c5c", "#4dc3ff", "#7dff6b", "#ffd23f", "#ff8cf0", "#b18cff")


STRUCTURE_COLORS += ("#ff9e45", "#2ef0d0", "#c8ff3d", "#ffb3b3", "#8fb4ff", "#ffffff")


SEED_LINES = ("-", "--", ":", "-.")


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


@dataclass(frozen=True)
class UncertaintyPicture:
    """One slice and the teacher's uncertainty of its pixels, in [0, 1]."""

    case: str
    slice_index: int
    image_hu: np.ndarray  # [H, W]
    uncertainty: np.ndarray  # [H, W]
    pixel_aspect: float = 1.0


def svg(figure: Figure) -> str:
    """The figure as an SVG element and the figure closed; its text stays text, its white ground has id "background"."""
    figure.patch.set(gid="background", facecolor="white")
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pixelglobal"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def method_colors(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method; the known methods have the same one in every figure of every study."""
    known = STUDY_COLORS | {name: variant.color for name, (_, variant) in variants().items()}
    others = [m for m in methods if m not in known]
    return {m: known.get(m) or OTHER_COLORS[others.index(m) % len(OTHER_COLORS)] for m in methods}


@house_style()
def draw_curves(curves: Sequence[Curve], names: Mapping[str, str], title: str) -> Figure:
    """One panel for each quantity of `names` ({key of the log: axis label}), one line for each training.

    Colour is the method, line style the seed. A quantity that no training logged has a panel that says so.
    """
    figure, axes = plt.subplots(1, len(names), figsize=(3.1 * len(names), 2.9), layout="constrained", squeeze=False)
    colors = method_colors(list(dict.fromkeys(c.method for c in curves)))
    seeds = sorted({c.seed for c in curves})
    styles = {seed: SEED_LINES[i % len(SEED_LINES)] for i, seed in enumerate(seeds)}
    for axis, (key, label) in zip(axes[0], names.items(), strict=True):
        for curve in curves:
            points = [(line["step"], line[key]) for line in curve.lines if _is_number(line.get(key))]
            if points:
                mark = "o" if len(points) == 1 else None
                color, style = colors[curve.method], styles[curve.seed]
                axis.plot(*zip(*points, strict=True), color=color, ls=style, marker=mark, ms=3, lw=1.3)
        if not axis.lines:
            axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center", color=GREY)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.35, lw=0.5)
    handles = [Line2D([], [], color=color, label=m) for m, color in colors.items()]
    handles += [Line2D([], [], color=INK, lw=1, ls=styles[s], label=f"seed {s}") for s in seeds[: len(SEED_LINES)]]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)))
    figure.suptitle(title, fontsize=10)
    return figure


@house_style()
def draw_patients(rows: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Each patient's mean 3-D DSC over the patient's structures in each run as a dot; lines join a patient's means over
    runs; bars are the averages of the tables."""
    volumes = rows[(rows["slice_index"] == -1) & rows["contoured"].astype(bool)]
    each = volumes.groupby(["method", "seed", "patient"])["dice"].mean() * 100
    means = each.groupby(["method", "patient"]).mean().unstack("method")[list(methods)]
    of_structures = volumes.groupby(["method", "structure", "patient"])["dice"].mean().groupby(["method", "structure"])
    averages = of_structures.mean().groupby("method").mean() * 100
    colors = method_colors(methods)
    figure, axis = plt.subplots(figsize=(2.2 + 1.6 * len(methods), 3.8), layout="constrained")
    for values in means.to_numpy():
        axis.plot(range(len(methods)), values, color=GREY, lw=0.7, alpha=0.6, zorder=1)
    for i, method in enumerate(methods):
        runs = each[method]
        seeds = sorted(runs.index.get_level_values("seed").unique())
        for k, seed in enumerate(seeds):
            shift = 0.3 * (k - (len(seeds) - 1) / 2) / len(seeds)
            y = runs[seed].to_numpy()
            axis.scatter(np.full(len(y), i + shift), y, s=14, color=colors[method], alpha=0.75, zorder=2, lw=0)
        mean = averages[method]
        axis.hlines(mean, i - 0.24, i + 0.24, color=colors[method], lw=2.2, zorder=3)
        axis.annotate(f"{mean:.1f}", (i + 0.26, mean), va="center", fontsize=9, fontweight="bold")
    axis.set(xticks=range(len(methods)), xticklabels=methods, ylabel="mean DSC of a patient (%)")
    axis.set_xlim(-0.5, len(methods) - 0.4)
    axis.grid(axis="y", alpha=0.35, lw=0.5)
    return figure


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
            _show_ct(axis, overlay.image_hu[box], overlay.pixel_aspect)
            _draw_labels(axis, shown[name][box], len(overlay.structures))
            if name in overlay.predictions:
                axis.set_xlabel(_score(shown[name], overlay.reference, len(overlay.structures)), fontsize=8, labelpad=2)
        row[0].set_ylabel(f"{overlay.case}\nslice {overlay.slice_index}", fontsize=7)
        _mark_sides(row[0])
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    handles = [
        Line2D([], [], color=STRUCTURE_COLORS[c % len(STRUCTURE_COLORS)], lw=4, label=s)
        for c, s in enumerate(overlays[0].structures)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, handlelength=1)
    return figure


@house_style()
def draw_uncertainty(pictures: Sequence[UncertaintyPicture]) -> Figure:
    """The paper's Figure 2: each slice over the teacher's uncertainty; brighter is less certain, from 0 to 1."""
    if not pictures:
        raise ValueError("there is no uncertainty map to draw: expected at least one picture")
    figure, axes = plt.subplots(
        2, len(pictures), figsize=(2.3 * len(pictures) + 0.8, 4.8), layout="constrained", squeeze=False
    )
    for axis, below, picture in zip(axes[0], axes[1], pictures, strict=True):
        _show_ct(axis, picture.image_hu, picture.pixel_aspect)
        axis.set_title(f"{picture.case}\nslice {picture.slice_index}", fontsize=7)
        shown = _show(below, picture.uncertainty, picture.pixel_aspect, "magma", (0.0, 1.0))
        below.set_xlabel(f"mean U {np.mean(picture.uncertainty):.2f}", fontsize=8, labelpad=2)
    _mark_sides(axes[0][0])
    axes[0][0].set_ylabel("CT", fontsize=9)
    axes[1][0].set_ylabel("uncertainty", fontsize=9)
    figure.colorbar(shown, ax=axes[1].tolist(), shrink=0.85, label="U (entropy / ln K)", ticks=[0, 0.25, 0.5, 0.75, 1])
    return figure


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _show(axis: Any, image: np.ndarray, aspect: float, colors: str, limits: tuple[float, float]) -> Any:
    """An image [H, W] with the patient's right on the left; its own pixels, so that files stay sharp and small."""
    low, high = limits
    flipped = image[:, ::-1]
    shown = axis.imshow(flipped, cmap=colors, vmin=low, vmax=high, origin="lower", aspect=aspect, interpolation="none")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return shown


def _show_ct(axis: Any, image_hu: np.ndarray, aspect: float) -> None:
    _show(axis, image_hu, aspect, "gray", WINDOW_HU)


def _draw_labels(axis: Any, labels: np.ndarray, n_structures: int) -> None:
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


def _mark_sides(axis: Any) -> None:
    """R and L of the patient at the sides of a slice."""
    for x, letter in ((0.03, "R"), (0.97, "L")):
        axis.text(x, 0.5, letter, transform=axis.transAxes, color="white", fontsize=8, ha="center", va="center",
                  fontweight="bold")  # fmt: skip
