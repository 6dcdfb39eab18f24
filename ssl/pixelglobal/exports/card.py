"""The model card beside an export: what was trained, on what, how well it does, and what it is for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.exports.certificate import Certificate
from pixelglobal.files import write_file
from pixelglobal.statistics.intervals import mean_interval
from pixelglobal.training.cohort_statistics import GEOMETRY, read_cohort_statistics

INTENDED_USE = (
    "Research on the segmentation of CT. It is no medical device and was not tested as one: no decision about a "
    "patient may rest on it, and every contour needs the eyes of somebody who may draw it."
)


def write_card(
    path: Path,
    model: Path,
    facts: Mapping[str, Any],
    certificate: Certificate,
    rows: Path | None,
    licence: str | None,
) -> Path:
    """Write the card as Markdown. rows: of an evaluation of this model, for the metrics. Returns its path."""
    sections = {
        "What it is": _what(facts),
        "How to load it": ["```python\n" + "\n".join(certificate.usage) + "\n```", _input(facts, certificate)],
        "What was checked": [
            f"{certificate.library} loaded this file, and its {certificate.compared} differed from ours by at most "
            f"{certificate.difference:.0e} of their magnitude.",
            *[f"Left out: {what}." for what in certificate.left_out],
        ],
        "What it was trained on": _cohort(model, facts),
        "How well it does": _metrics(facts, rows),
        "Intended use": [INTENDED_USE],
        "Licence": [licence or "Not stated. Ask whoever trained it; the data may restrict the use of the weights."],
    }
    text = f"# {path.stem}\n\n" + "\n".join(
        f"## {title}\n\n" + "\n\n".join(paragraphs) + "\n" for title, paragraphs in sections.items()
    )
    return write_file(path, text)


def _what(facts: Mapping[str, Any]) -> list[str]:
    network = facts["network"]
    kind = "A segmenter" if facts["kind"] == "segmenter" else "A pre-trained network"
    text = [f"{kind} of pixelglobal {facts['pixelglobal_version']}: encoder {network['encoder']}, decoder widths "
            f"{', '.join(map(str, network['decoder_widths']))}, seed {facts['seed']}."]  # fmt: skip
    if facts["kind"] == "segmenter":
        text.append(f"Labels: 0 background, {', '.join(f'{i} {s}' for i, s in enumerate(facts['structures'], 1))}.")
        text.append(f"Initial weights: {facts['transfer']}.")
    else:
        text.append(f"Method: {facts['pretrain']['method']}. {facts.get('citation', '')}".rstrip())
    return text


def _input(facts: Mapping[str, Any], certificate: Certificate) -> str:
    scale = facts["scale"]
    shape = f"float32 [B, {facts['network'].get('in_channels', 1)}, H, W], whose sides are multiples of 32"
    ct = "grid" not in facts or StoredGrid.of(facts["grid"]).is_ct
    value = "HU" if ct else "value"
    if certificate.library in ("torch.jit", "onnxruntime"):
        what = "slices in HU" if ct else "pictures with values from 0 to 32767, the greatest of their file's type"
        return f"It takes {what}, {shape}."
    mean = f"{scale['mean_hu']:.6g}) / {scale['std_hu']:.6g}"
    if scale["scope"] == "slice":
        mean = "mean of the slice) / standard deviation of the slice"
    return (
        f"It takes slices {shape}, as ({value} - {mean} after clipping {value} to "
        f"[{scale['hu_min']:g}, {scale['hu_max']:g}]. "
        + ("Rows run from back to front and columns from the patient's left to the right." if ct else "")
    )


def _cohort(model: Path, facts: Mapping[str, Any]) -> list[str]:
    text = [f"{len(facts['cases_seen'])} scans of the cohort {facts.get('cohort', '(not recorded)')}, pre-training and "
            "validation included; model.json lists them by the hashes of their voxels."]  # fmt: skip
    if "grid" in facts:
        grid = facts["grid"]
        mm = grid["in_plane_spacing_mm"]
        pixels = "the pixels of the scan" if mm is None else f"pixels of {mm:g} mm"
        text.append(f"Slices of {grid['image_size']} x {grid['image_size']}, {pixels}.")
    statistics = read_cohort_statistics(model)
    if statistics is not None:
        means = [math.exp(value) for value in statistics.groups["geometry"].mean]
        named = ", ".join(f"{name} {mean:.3g}" for name, mean in zip(GEOMETRY, means, strict=True))
        text.append(f"Geometric means over the {statistics.n_patients} patients of the fine-tuning: {named}.")
    return text


def _metrics(facts: Mapping[str, Any], rows: Path | None) -> list[str]:
    if rows is None:
        if "best_dice" in facts:
            dice = f"{100 * facts['best_dice']:.1f} %"
            return [f"Mean DSC of the validation patients, by which the epoch was chosen: {dice}. "
                    "No test patients were given to this card (--rows)."]  # fmt: skip
        return ["It segments nothing by itself; see the runs that were fine-tuned from it."]
    table = pd.read_parquet(rows)
    scores = table[(table["slice_index"] == -1) & table["dice"].notna()]
    lines = ["| structure | patients | mean DSC (%) | 95 % interval |", "| --- | --- | --- | --- |"]
    for structure, part in scores.groupby("structure", sort=False):
        dice = 100 * part.groupby("patient")["dice"].mean().to_numpy(float)
        interval = "-"
        if len(dice) > 1:
            low, high = mean_interval(dice, 10_000, np.random.default_rng(0))
            interval = f"{low:.1f} to {high:.1f}"
        lines.append(f"| {structure} | {len(dice)} | {dice.mean():.1f} | {interval} |")
    return [f"3-D DSC on the patients of {rows.name}, which the model has not seen:", "\n".join(lines)]
