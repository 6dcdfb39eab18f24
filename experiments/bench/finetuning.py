"""Recipes of fine-tuning on the same labelled slices, network and steps, scored on development patients.

Nothing here reads a test patient: training slices are of a few training patients, and scores of training and validation
patients that were not labelled in the draw. A choice that is made on these scores is made on these patients.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.bench.finetuning_peers import PEERS, train_peer
from experiments.bench.timing import Findings
from pixelglobal import config as settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.evaluation.load_segmenter import load_segmenter
from pixelglobal.networks.segmenter import Segmenter, predict_labels
from pixelglobal.seeds import derive
from pixelglobal.training.finetune import finetune
from pixelglobal.training.labelled import choose_patients
from pixelglobal.training.runs import LocalRun
from pixelglobal.views.intensity import HuScale

CPU = torch.device("cpu")
# What version 0.1.0 did, in parts; each part beside the defaults shows what that change is worth.
PARTS: dict[str, dict[str, Any]] = {
    "PyTorch's bias": {"classifier_bias": "default"},
    "vertical flips": {"flip_vertical_probability": 0.5},
    "slices in turn": {"by_structure_fraction": 0.0},
    "no warm-up": {"warmup_fraction": 0.0},
    "half Dice": {"dice_weight": 0.5},
    "no shift, little zoom": {
        "translation_fraction": 0.0, "scale_min": 0.9, "scale_max": 1.1, "rotation_probability": 0.5,
    },
    "mild intensities": {
        "contrast_min": 0.75, "contrast_max": 1.25, "contrast_probability": 0.5,
        "gamma_min": 0.7, "gamma_max": 1.5, "gamma_probability": 0.5,
    },
}  # fmt: skip
OLD = {name: value for part in PARTS.values() for name, value in part.items()}
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "0.1.0": OLD,
    "0.1.0 with the bias": {**OLD, "classifier_bias": "log_frequencies"},
    **{f"default but {name}": part for name, part in PARTS.items()},
    "default but 30 % empty slices": {"empty_slice_fraction": 0.3},
}
COMPLETE = "always contoured"  # the average over structures that every development patient has


def bench_finetuning(
    store: Store,
    rows_file: Path,
    recipes: Sequence[str],
    steps: Sequence[int],
    seeds: Sequence[int],
    *,
    overrides: Sequence[str] = (),
    n_patients: int = 4,
    n_scored: int = 12,
) -> Findings:
    """Fine-tune random weights by each recipe, for each number of steps and seed, and score unlabelled patients.

    rows_file: a CSV with a row for each training, written as they come; what it holds already is not trained again.
    n_patients: labelled patients of a draw. n_scored: development patients that are scored, drawn by the seed.
    Raises ValueError for an unknown recipe.
    """
    if unknown := [name for name in recipes if name not in RECIPES and name not in PEERS]:
        raise ValueError(f"unknown recipe {unknown[0]!r}: choose of {', '.join([*RECIPES, *PEERS])}")
    rows = pd.read_csv(rows_file).to_dict("records") if rows_file.is_file() else []
    done = {(row["recipe"], row["steps"], row["seed"]) for row in rows}
    for total in steps:
        for seed in seeds:
            for name in recipes:
                if (name, total, seed) not in done:
                    config = _config(overrides, total, seed, RECIPES.get(name, {}))
                    rows.append(
                        {
                            "recipe": name,
                            "steps": total,
                            "seed": seed,
                            **_score(name, config, store, n_patients, n_scored),
                        }
                    )
                    pd.DataFrame(rows).to_csv(rows_file, index=False)
    frame = pd.DataFrame(rows)
    frame = frame[frame["recipe"].isin(recipes) & frame["steps"].isin(steps) & frame["seed"].isin(seeds)]
    facts = {"store": store.name, "labelled patients": n_patients, "scored": n_scored, "torch": torch.__version__}
    return Findings("fine-tuning of random weights: mean DSC (%) by steps", _summary(frame), facts=facts)


def _config(overrides: Sequence[str], steps: int, seed: int, recipe: Mapping[str, Any]) -> Config:
    base = settings.resolve("small", [*overrides, f"seed={seed}"])
    return settings.with_settings(base, finetune={"epochs": 1, "steps_per_epoch": steps, **recipe})


def development_patients(store: Store, labelled: Sequence[str], seed: int, count: int) -> list[str]:
    """Cases of training and validation patients without those labelled ones, in an order that depends on the seed."""
    cases = [case for case in (*store.splits.train, *store.splits.validation) if case not in set(labelled)]
    order = np.random.default_rng(derive(seed, "scored patients")).permutation(len(cases))
    return [cases[i] for i in order[:count]]


def _score(name: str, config: Config, store: Store, n_patients: int, n_scored: int) -> dict[str, float]:
    """Train by a recipe; DSC in per cent of each structure and their averages, and the seconds of training."""
    labelled = choose_patients(store, n_patients, config.seed)
    began = time.perf_counter()
    if name in PEERS:
        model, scale = train_peer(name, config, store, labelled)
    else:
        model, scale = finetuned(config, store, labelled)
    seconds = time.perf_counter() - began
    cases = development_patients(store, labelled, config.seed, n_scored)
    dice = pd.DataFrame([dice_of(model, scale, store, case, config) for case in cases], columns=store.structures)
    in_draw = np.any([store.contoured(case) for case in labelled], axis=0)
    complete = np.all([store.contoured(case) for case in (*store.splits.train, *store.splits.validation)], axis=0)
    means = 100 * dice.mean()
    return {
        "mean": round(float(means[in_draw].mean()), 2),
        COMPLETE: round(float(means[complete].mean()), 2),
        **means.round(2).to_dict(),
        "seconds": round(seconds, 1),
    }


def finetuned(config: Config, store: Store, labelled: Sequence[str]) -> tuple[Segmenter, HuScale]:
    """The library's own fine-tuning; without validation, the last weights are kept."""
    with tempfile.TemporaryDirectory() as folder:
        run = LocalRun(Path(folder))
        path = finetune(config, store, run, CPU, pretrained=None, train_cases=labelled, validation_cases=())
        return load_segmenter(path, CPU)[:2]


def dice_of(model: Segmenter, scale: HuScale, store: Store, case: str, config: Config) -> list[float]:
    """3-D Dice of each structure on the stored grid; NaN where it was not contoured."""
    batch = store.read_case(case)
    predicted = predict_labels(model, batch.image_hu, scale, config, CPU)
    values = []
    for c, contoured in enumerate(store.contoured(case), 1):
        p, r = predicted == c, batch.label == c
        size = int(p.sum()) + int(r.sum())
        values.append(2 * int((p & r).sum()) / size if contoured and size else float("nan"))
    return values


def _summary(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, and the paired difference from the defaults with its standard error."""
    rows = []
    pairs = frame.pivot_table(index=["steps", "seed"], columns="recipe", values="mean")
    for (recipe, steps), part in frame.groupby(["recipe", "steps"], sort=False):
        row = {"recipe": recipe, "steps": steps, "seeds": len(part)}
        row |= {"mean": f"{part['mean'].mean():.1f} ({part['mean'].std():.1f})"}
        row |= {COMPLETE: f"{part[COMPLETE].mean():.1f} ({part[COMPLETE].std():.1f})"}
        if "default" in pairs and recipe != "default":
            difference = (pairs[recipe] - pairs["default"]).loc[[steps]].dropna()
            error = difference.std() / max(1, len(difference)) ** 0.5
            row["minus default (SE)"] = f"{difference.mean():+.1f} ({error:.1f})"
        rows.append(row | {"seconds": round(float(part["seconds"].median()), 1)})
    return rows
