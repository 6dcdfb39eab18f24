"""Pictures of a study, as SVG text that goes into one page and as files: curves, patients, overlays, uncertainty."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

WINDOW_HU = (-160.0, 240.0)  # a soft-tissue window
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")  # Okabe and Ito


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
    image_hu: np.ndarray  # [H, W]
    pixel_aspect: float  # height over width of a pixel
    reference: np.ndarray  # [H, W]
    predictions: Mapping[str, np.ndarray]
    structures: Sequence[str]


@dataclass(frozen=True)
class UncertaintyPicture:
    """One slice and the teacher's uncertainty of its pixels, in [0, 1]."""

    case: str
    slice_index: int
    image_hu: np.ndarray
    uncertainty: np.ndarray


def svg(figure: Figure) -> str:
    """The figure as an SVG element; its text stays text."""
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pixelglobal"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def draw_curves(curves: Sequence[Curve], names: Mapping[str, str], title: str) -> Figure:
    """One panel for each quantity of `names` ({key of the log: axis label}), one line for each training."""
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.7), layout="constrained", squeeze=False)
    methods = list(dict.fromkeys(c.method for c in curves))
    for axis, (key, label) in zip(axes[0], names.items(), strict=True):
        for curve in curves:
            points = [(line["step"], line[key]) for line in curve.lines if key in line]
            if points:
                axis.plot(*zip(*points, strict=True), color=COLORS[methods.index(curve.method)], lw=1.2, alpha=0.85)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.25, lw=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=COLORS[i], label=m) for i, m in enumerate(methods)]
    axes[0][-1].legend(handles=handles, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_patients(rows: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Each patient's mean 3-D DSC in each run as a dot; lines join a patient's means over runs."""
    volumes = rows[(rows["slice_index"] == -1) & rows["contoured"].astype(bool)]
    each = volumes.groupby(["method", "seed", "patient"])["dice"].mean() * 100
    means = each.groupby(["method", "patient"]).mean().unstack("method")[list(methods)]
    figure, axis = plt.subplots(figsize=(1.6 + 1.5 * len(methods), 3.4), layout="constrained")
    for values in means.to_numpy():
        axis.plot(range(len(methods)), values, color="0.75", lw=0.7, zorder=1)
    for i, method in enumerate(methods):
        runs = each[method]
        seeds = sorted(runs.index.get_level_values("seed").unique())
        for k, seed in enumerate(seeds):
            shift = 0.06 * (k - (len(seeds) - 1) / 2)
            y = runs[seed].to_numpy()
            axis.scatter(np.full(len(y), i + shift), y, s=9, color=COLORS[i], alpha=0.7, zorder=2, lw=0)
        axis.hlines(means[method].mean(), i - 0.2, i + 0.2, color=COLORS[i], lw=2)
    axis.set(xticks=range(len(methods)), xticklabels=methods, ylabel="mean DSC of a patient (%)")
    axis.set_xlim(-0.5, len(methods) - 0.5)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def draw_overlays(overlays: Sequence[Overlay]) -> Figure:
    """The paper's Figure 3: one row a slice; the reference, then every method, as contours over the CT."""
    methods = list(overlays[0].predictions)
    columns = ["reference", *methods]
    height = 2.3 * len(overlays)
    figure, axes = plt.subplots(
        len(overlays), len(columns), figsize=(2.3 * len(columns), height + 0.5), layout="constrained", squeeze=False
    )
    for row, overlay in zip(axes, overlays, strict=True):
        for axis, name in zip(row, columns, strict=True):
            _show_ct(axis, overlay.image_hu, overlay.pixel_aspect)
            labels = overlay.reference if name == "reference" else overlay.predictions[name]
            for c in range(len(overlay.structures)):
                if (labels == c + 1).any():
                    axis.contour(labels == c + 1, levels=[0.5], colors=[COLORS[c % len(COLORS)]], linewidths=1.1)
        row[0].set_ylabel(f"{overlay.case}\nslice {overlay.slice_index}", fontsize=7)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    handles = [Line2D([], [], color=COLORS[c % len(COLORS)], label=s) for c, s in enumerate(overlays[0].structures)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False, fontsize=8)
    return figure


def draw_uncertainty(pictures: Sequence[UncertaintyPicture]) -> Figure:
    """The paper's Figure 2: each slice beside the teacher's uncertainty; brighter is less certain."""
    figure, axes = plt.subplots(
        2, len(pictures), figsize=(2.3 * len(pictures) + 0.6, 4.6), layout="constrained", squeeze=False
    )
    for axis, below, picture in zip(axes[0], axes[1], pictures, strict=True):
        _show_ct(axis, picture.image_hu, 1.0)
        axis.set_title(f"{picture.case}, slice {picture.slice_index}", fontsize=7)
        shown = below.imshow(picture.uncertainty, cmap="magma", vmin=0, vmax=1, origin="lower")
        below.set(xticks=[], yticks=[])
    axes[0][0].set_ylabel("CT", fontsize=8)
    axes[1][0].set_ylabel("uncertainty U", fontsize=8)
    figure.colorbar(shown, ax=axes[1].tolist(), shrink=0.8, label="U (entropy / ln K)")
    return figure


def _show_ct(axis: Any, image_hu: np.ndarray, aspect: float) -> None:
    axis.imshow(image_hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], origin="lower", aspect=aspect)
    axis.set(xticks=[], yticks=[])
