"""Slices of a few test cases for the case viewer: the CT once, and the contours of every run as paths over it.

The cases are chosen by a rule that is printed: the worst, the median and the best by the gain of the study's first
contrast, and those in which a run has missed a structure. Slices are shown as radiologists see them, the patient's
right on the left and the front at the top.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from contourpy import contour_generator
from PIL import Image

from experiments.report.collect import finished
from experiments.report.figures import STRUCTURE_COLORS
from experiments.report.palette import method_words
from experiments.runner.pipeline import Pipeline
from pixelglobal.data.volumes import read_labels

LIMIT_BYTES = 2_900_000  # of what the page holds of all cases
SLICES = (16, 12, 9, 6, 4, 2)  # of a case, as many as the limit allows
MOST_CASES = 8
# HU are stored as 8-bit grey with most levels in soft tissue, 3 HU each, so that every window has enough of them.
HU_KNOTS, GREY_KNOTS = (-1350.0, -160.0, 240.0, 1050.0), (0.0, 60.0, 195.0, 255.0)


@dataclass(frozen=True)
class Choice:
    """A case that is shown, and why."""

    case: str
    why: str
    gain: float  # of the first contrast in DSC points


def choose_cases(rows: pd.DataFrame, method: str, baseline: str) -> tuple[list[Choice], str]:
    """The cases to show and the rule in words; rows of one cohort and number of labelled patients."""
    volumes = rows[(rows["slice_index"] == -1) & rows["contoured"].astype(bool)]
    means = volumes.groupby(["case", "method"])["dice"].mean().unstack("method") * 100
    gains = (means[method] - means[baseline]).sort_values(kind="stable")
    last = len(gains) - 1
    chosen: dict[str, list[str]] = {}
    for place, word in ((0, "worst"), (last // 2, "median"), (last, "best")):
        chosen.setdefault(str(gains.index[place]), []).append(f"{word} gain")
    missed = volumes[volumes["dice"] == 0]
    for case, of_case in missed.groupby("case"):
        names = ", ".join(dict.fromkeys(of_case["structure"]))
        chosen.setdefault(str(case), []).append(f"{names} missed in {len(of_case.groupby(['method', 'seed']))} runs")
    kept = list(chosen)[:MOST_CASES]
    rule = (
        f"Chosen by the gain of {method_words(method)} over {method_words(baseline)} in mean DSC over structures and "
        "runs: the worst, the median and the best case, and every case in which a run has a structure with DSC 0."
    )
    if left_out := len(chosen) - len(kept):
        rule += f" {left_out} more cases with a missed structure are left out."
    return [Choice(case, "; ".join(chosen[case]), float(gains[case])) for case in kept], rule


def viewer_data(pipelines: Sequence[Pipeline], rows: pd.DataFrame, method: str, baseline: str) -> dict[str, Any] | None:
    """What the page's viewer needs, `packed` being gzip in base64; None where no run has kept its predictions."""
    done = [p for p in finished(pipelines) if (p.evaluate.folder / "predictions").is_dir()]
    if not done or not {method, baseline} <= set(rows["method"]):
        return None
    choices, rule = choose_cases(rows, method, baseline)
    runs = [{"method": p.run.method, "seed": p.run.config.seed} for p in done]
    structures = list(done[0].run.store.structures)
    packed = ""
    for most in SLICES:
        cases = [_case(choice, done, rows, most, structures) for choice in choices]
        packed = base64.b64encode(gzip.compress(json.dumps(cases, separators=(",", ":")).encode(), mtime=0)).decode()
        if len(packed) <= LIMIT_BYTES:
            break
    colors = [STRUCTURE_COLORS[i % len(STRUCTURE_COLORS)] for i in range(len(structures))]
    names = [{"case": choice.case, "why": choice.why, "gain": choice.gain} for choice in choices]
    return {"rule": rule, "runs": runs, "structures": structures, "colors": colors, "cases": names, "packed": packed,
            "hu": HU_KNOTS, "grey": GREY_KNOTS}  # fmt: skip


def _case(
    choice: Choice, pipelines: Sequence[Pipeline], rows: pd.DataFrame, most: int, structures: Sequence[str]
) -> dict[str, Any]:
    store = pipelines[0].run.store
    reference, spacing_mm, _ = read_labels(store.label_path(choice.case))
    predictions = [read_labels(p.evaluate.folder / "predictions" / f"{choice.case}.nii.gz")[0] for p in pipelines]
    anything = np.any([reference > 0, *(labels > 0 for labels in predictions)], axis=0)
    indices = _slices(anything, reference, most)
    box = _box(anything)
    image = store.read_case(choice.case).image_hu
    shown = [_turned(store.paste_back_image(choice.case, image[z].numpy())[box]) for z in indices]
    height, width = shown[0].shape
    return {
        "case": choice.case,
        "mm": [float(value) for value in spacing_mm],
        "size": [height, width],
        "z": indices,
        "first": int(np.argmax([np.count_nonzero(reference[z]) for z in indices])),
        "images": [_webp(slice_hu) for slice_hu in shown],
        "reference": _paths(reference, indices, box, len(structures)),
        "runs": [_paths(labels, indices, box, len(structures)) for labels in predictions],
        "dice": [_dice(rows, p, choice.case, structures) for p in pipelines],
    }


def _slices(anything: np.ndarray, reference: np.ndarray, most: int) -> list[int]:
    """Up to `most` slices with structures, evenly spaced, the one with most of the reference among them."""
    there = np.flatnonzero(anything.any((1, 2)))
    if not len(there):
        return [anything.shape[0] // 2]
    fullest = int(np.argmax(np.count_nonzero(reference, axis=(1, 2))))
    even = there[np.linspace(0, len(there) - 1, min(most, len(there))).round().astype(int)]
    if fullest in there and fullest not in even:
        even[np.argmin(np.abs(even - fullest))] = fullest
    return sorted({int(z) for z in even})


def _box(anything: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around all structures of a case with a margin, at least 40 % of the scan each way."""
    spans = []
    for axis in (0, 1):
        inside = np.flatnonzero(anything.any((0, 2 - axis)))
        size = anything.shape[1 + axis]
        if not len(inside):
            spans.append(slice(0, size))
            continue
        width = min(size, max(round(1.3 * (inside[-1] - inside[0] + 1)), round(0.4 * size)))
        start = min(max(0, round((inside[0] + inside[-1] + 1 - width) / 2)), size - width)
        spans.append(slice(start, start + width))
    return spans[0], spans[1]


def _turned(image: np.ndarray) -> np.ndarray:
    """The patient's right on the left and the front at the top."""
    return image[::-1, ::-1]


def _webp(image_hu: np.ndarray) -> str:
    grey = np.interp(image_hu, HU_KNOTS, GREY_KNOTS).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "WEBP", quality=72, method=4)
    return base64.b64encode(buffer.getvalue()).decode()


def _paths(labels: np.ndarray, indices: Sequence[int], box: tuple[slice, slice], count: int) -> list[dict[str, str]]:
    """For each slice {number of the structure: SVG path in half pixels}, without structures that are not there."""
    of_slices = []
    for z in indices:
        turned = _turned(labels[z][box])
        found = {str(c): svg_path(turned == c + 1) for c in range(count)}
        of_slices.append({number: path for number, path in found.items() if path})
    return of_slices


def svg_path(mask: np.ndarray) -> str:
    """The outlines of a mask [H, W] as closed SVG paths in half pixels, from the upper left corner of the picture.

    >>> svg_path(np.array([[False, False], [False, True]]))
    'M2 3l1 -1l1 1l-1 1z'
    """
    if not mask.any():
        return ""
    padded = np.pad(mask, 1).astype(float)
    parts = []
    for line in contour_generator(z=padded).lines(0.5):
        points = np.rint(np.asarray(line) * 2).astype(int) - 1  # of the padded pixel's centre to half pixels
        steps = np.diff(points, axis=0)
        turns = np.flatnonzero((steps[1:] != steps[:-1]).any(1)) + 1
        corners = points[[0, *turns, len(points) - 1]]
        moves = "".join(f"l{dx} {dy}" for dx, dy in np.diff(corners, axis=0)[:-1])
        parts.append(f"M{corners[0][0]} {corners[0][1]}{moves}z")
    return "".join(parts)


def _dice(rows: pd.DataFrame, pipeline: Pipeline, case: str, structures: Sequence[str]) -> Mapping[str, float]:
    """{number of the structure: DSC in % of the whole scan} where it was contoured."""
    run = pipeline.run
    of_run = rows[(rows["method"] == run.method) & (rows["seed"] == run.config.seed) & (rows["case"] == case)
                  & (rows["slice_index"] == -1) & rows["contoured"].astype(bool)]  # fmt: skip
    scores = dict(zip(of_run["structure"], of_run["dice"], strict=True))
    return {str(c): round(100 * float(scores[s]), 1) for c, s in enumerate(structures) if s in scores}
