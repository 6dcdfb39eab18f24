"""The teacher's uncertainty on test slices: where it is high, and how it falls with the distance from a border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import ndimage

from experiments.report.figures import INK, house_style, mark_sides, show, show_ct

AIR_HU = -400.0  # below it a pixel is air or lung; what is enclosed by the body belongs to it
FARTHEST_PIXELS = 12  # distances from a border that are told apart


@dataclass(frozen=True)
class UncertaintyPicture:
    """One slice and the teacher's uncertainty of its pixels, in [0, 1]."""

    case: str
    slice_index: int
    image_hu: np.ndarray  # [H, W]
    uncertainty: np.ndarray  # [H, W]
    labels: np.ndarray | None = None  # [H, W], 0 is background
    model: str = ""  # whose teacher it is
    pixel_aspect: float = 1.0


def body_of(image_hu: np.ndarray) -> np.ndarray:
    """The largest connected part that is no air, with what it encloses, bool [H, W]; everything if there is none."""
    parts, count = ndimage.label(image_hu > AIR_HU)
    if not count:
        return np.ones(image_hu.shape, bool)
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return np.asarray(ndimage.binary_fill_holes(largest))


def uncertainty_by_distance(pictures: Sequence[UncertaintyPicture]) -> tuple[list[int], list[float]]:
    """Mean U inside the body at each distance in pixels from the nearest border; both empty without labels."""
    sums, counts = np.zeros(FARTHEST_PIXELS), np.zeros(FARTHEST_PIXELS)
    for picture in pictures:
        if picture.labels is None or not picture.labels.any():
            continue
        inside = picture.labels > 0
        from_border = np.where(inside, ndimage.distance_transform_edt(inside),
                               ndimage.distance_transform_edt(~inside))  # fmt: skip
        distance = np.ceil(from_border).astype(int) - 1
        kept = body_of(picture.image_hu) & (distance < FARTHEST_PIXELS)
        sums += np.bincount(distance[kept], picture.uncertainty[kept], FARTHEST_PIXELS)
        counts += np.bincount(distance[kept], minlength=FARTHEST_PIXELS)
    there = np.flatnonzero(counts)
    return (there + 1).tolist(), (sums[there] / counts[there]).tolist()


@house_style()
def draw_uncertainty(pictures: Sequence[UncertaintyPicture]) -> Figure:
    """The paper's Figure 2: each slice over the teacher's uncertainty inside the body; brighter is less certain.

    Contours are the reference; the last panel is mean U against the distance from the nearest of them.
    """
    if not pictures:
        raise ValueError("there is no uncertainty map to draw: expected at least one picture")
    distances, means = uncertainty_by_distance(pictures)
    columns = len(pictures) + bool(distances)
    figure, axes = plt.subplots(2, columns, figsize=(2.3 * columns + 0.8, 4.8), layout="constrained", squeeze=False)
    for axis, below, picture in zip(axes[0], axes[1], pictures, strict=False):
        body = body_of(picture.image_hu)
        show_ct(axis, picture.image_hu, picture.pixel_aspect)
        axis.set_title(f"{picture.case}\nslice {picture.slice_index}", fontsize=8)
        masked = np.where(body, picture.uncertainty, np.nan)
        shown = show(below, masked, picture.pixel_aspect, "magma", (0.0, 1.0))
        if picture.labels is not None and picture.labels.any():
            for panel, color in ((axis, "white"), (below, "#7ee8fa")):
                panel.contour(picture.labels[:, ::-1] > 0, levels=[0.5], colors=[color], linewidths=0.9)
        below.set_xlabel(f"mean U {np.nanmean(masked):.2f}", fontsize=8, labelpad=2)
    mark_sides(axes[0][0])
    axes[0][0].set_ylabel("CT", fontsize=9)
    axes[1][0].set_ylabel("uncertainty", fontsize=9)
    if distances:
        axes[0][-1].axis("off")
        axes[1][-1].plot(distances, means, "o-", color=INK, ms=3, lw=1)
        axes[1][-1].set(xlabel="pixels from a border", ylabel="mean U", ylim=(0, 1))
    side = axes[1][: len(pictures)].tolist()
    figure.colorbar(shown, ax=side, shrink=0.85, label="U (entropy / ln K)", ticks=[0, 0.25, 0.5, 0.75, 1])
    return figure
