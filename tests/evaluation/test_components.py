"""The largest connected component of each structure, alone and in an evaluation."""

import numpy as np
import pandas as pd
import torch

from pixelglobal import config as settings
from pixelglobal.cluster.train import run_finetune
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.data.volumes import read_labels
from pixelglobal.evaluation import evaluate
from pixelglobal.evaluation.components import largest_components


def test_each_structure_keeps_its_largest_part_and_corners_connect():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0:2, 0:2, 0:2] = 1
    labels[2, 2, 2] = 1  # touches at a corner
    labels[5, 5, 5] = 1
    labels[4, 0:3, 0] = 3
    labels[0, 5, 0:2] = 3
    kept = largest_components(labels)
    assert kept[5, 5, 5] == 0
    assert (kept == 1).sum() == 9
    assert (kept == 3).sum() == 3
    assert (kept[labels == 0] == 0).all()
    assert (largest_components(np.zeros((2, 2, 2), np.uint8)) == 0).all()


def test_an_evaluation_scores_and_saves_what_is_left(tiny, store, tmp_path, monkeypatch):
    little = settings.with_settings(tiny, finetune={"epochs": 1, "steps_per_epoch": 1})
    work = {"pretrained": None, "train_cases": store.splits.train, "validation_cases": ()}
    model = run_finetune(little, store.root, tmp_path / "model", **work)
    [case] = cases = store.splits.test[:1]
    reference = read_labels(store.label_path(case))[0]
    ghosts = reference.copy()
    ghosts[0, 0, 0] = ghosts[-1, -1, -1] = 1
    monkeypatch.setattr(StoredGrid, "paste_back", lambda *_: ghosts)  # whatever so short a training predicts
    dice = {}
    for keep in (False, True):
        config = settings.with_settings(tiny, evaluate={"largest_component": keep})
        constants = {"method": "random", "seed": 0}
        out = tmp_path / str(keep)
        evaluate.evaluate(config, store, model, out, torch.device("cpu"), cases=cases, columns=constants)
        saved = read_labels(out / "predictions" / f"{case}.nii.gz")[0]
        assert np.array_equal(saved, largest_components(ghosts) if keep else ghosts)
        rows = pd.read_parquet(out / "rows.parquet")
        dice[keep] = rows[(rows["slice_index"] == -1) & (rows["structure"] == store.structures[0])]["dice"].item()
    assert dice[False] < dice[True] == 1
