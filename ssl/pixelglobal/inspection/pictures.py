"""Pictures of an inspection: histograms of HU, spacings, and a slice of a scan with its labels, small."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pixelglobal.data.checks.measure import BIN_HU, FIRST_HU, LAST_HU
from pixelglobal.data.slices import labelled_pixels, read_slice
from pixelglobal.data.store import Store
from pixelglobal.inspection.inspection import Inspection

# Of Okabe and Ito, told apart by most people with a colour vision deficiency; seen on white and on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dvp"
INK = "#1a1d22"  # which the page replaces by the colour of its text
WINDOW_HU = (-160.0, 240.0)
SIDE = 160  # pixels of a thumbnail
STYLE: Any = {
    "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.facecolor": "none", "svg.hashsalt": "pixelglobal", "text.parse_math": False,
}  # fmt: skip


def histograms(inspections: Sequence[Inspection]) -> str:
    """The share of voxels in each bin of HU, before clipping, one line for each cohort, as SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axis = figure.subplots()
        edges = np.arange(FIRST_HU, LAST_HU + 1, BIN_HU)
        for number, inspection in enumerate(inspections):
            if not inspection.store.grid.is_ct:
                continue
            counts = np.array(list(inspection.histograms.values()), float)
            share = (counts / counts.sum(1, keepdims=True)).mean(0)
            axis.stairs(np.maximum(share, 1e-7), edges, color=COLORS[number % len(COLORS)], label=inspection.store.name)
        axis.set(yscale="log", ylim=(1e-5, 1), xlabel="HU, before clipping", ylabel="share of voxels, mean of scans")
        axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
        return _svg(figure, "hu")


def spacings(inspections: Sequence[Inspection]) -> str:
    """Distance of slices over size of pixels, one point for each scan, as SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axis = figure.subplots()
        for number, inspection in enumerate(inspections):
            rows = inspection.store.cases
            axis.scatter(
                rows["spacing_x_mm"], rows["spacing_z_mm"], s=18, alpha=0.6, linewidths=0,
                color=COLORS[number % len(COLORS)], marker=MARKERS[number % len(MARKERS)], label=inspection.store.name,
            )  # fmt: skip
        axis.set(xlabel="size of pixels across, mm", ylabel="distance of slices, mm")
        axis.set(xlim=(0, None), ylim=(0, None))
        axis.legend(frameon=False)
        return _svg(figure, "spacing")


def thumbnail(store: Store, case: str, stretched: bool) -> str:
    """The slice of a case with the most labelled pixels, or its middle one, as WebP in base64.

    The patient's right is on the left and the front at the top; the window is that of soft tissue, or `stretched` over
    all values, for a scan without HU. Structures are tinted.
    """
    labelled = labelled_pixels(store.path(case))
    index = int(labelled.argmax()) if labelled.any() else len(labelled) // 2
    image_hu, labels = read_slice(store.path(case), index)
    image_hu = image_hu.mean(0) if image_hu.ndim == 3 else image_hu  # of a colour picture
    box = _square_around(image_hu > image_hu.min())
    image_hu, labels = image_hu[box], labels[box]
    low, high = (float(image_hu.min()), float(image_hu.max()) + 1) if stretched else WINDOW_HU
    grey = np.clip((image_hu - low) / (high - low), 0, 1)
    rgb = np.repeat(grey[..., None], 3, -1) * 255
    for value in np.unique(labels[labels > 0]):
        color = np.array(bytearray.fromhex(COLORS[(value - 1) % len(COLORS)][1:]), float)
        inside = labels == value
        rgb[inside] = 0.55 * rgb[inside] + 0.45 * color
    picture = Image.fromarray(rgb[::-1, ::-1].round().astype(np.uint8)).resize((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=70, method=4)
    return base64.b64encode(buffer.getvalue()).decode()


def _square_around(anything: np.ndarray) -> tuple[slice, slice]:
    """The smallest square of a slice [S, S] about its middle that holds all that is True."""
    side = len(anything)
    places = np.argwhere(anything)
    if not len(places):
        return slice(None), slice(None)
    margin = int(min(places.min(), side - 1 - places.max()))
    return slice(margin, side - margin), slice(margin, side - margin)


def _svg(figure: Figure, name: str) -> str:
    """The figure as SVG for a page, with ids of its own and in the colour of the page's text."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    drawing = buffer.getvalue()
    for mark in ('id="', 'href="#', "url(#"):
        drawing = drawing.replace(mark, f"{mark}{name}-")
    return drawing[drawing.index("<svg") :].replace(INK, "currentColor")
