"""The largest connected component of each structure, alone and in an evaluation."""

import numpy as np
import pandas as pd
import torch

from pixelglobal import config as settings
from pixelglobal.cluster.train import run_finetune
from pixelglobal.data.volumes import read_labels
from pixelglobal.evaluation.components import largest_components
from pixelglobal.evaluation.evaluate import evaluate


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


def test_an_evaluation_scores_and_saves_what_is_left(tiny, store, tmp_path):
    work = {"pretrained": None, "train_cases": store.splits.train, "validation_cases": ()}
    model = run_finetune(tiny, store.root, tmp_path / "model", **work)
    cases, columns = store.splits.test[:1], {"method": "random", "seed": 0}
    for name, keep in (("all", False), ("largest", True)):
        config = settings.with_settings(tiny, evaluate={"largest_component": keep})
        evaluate(config, store, model, tmp_path / name, torch.device("cpu"), cases=cases, columns=columns)
    plain, kept = (
        read_labels(tmp_path / name / "predictions" / f"{cases[0]}.nii.gz")[0] for name in ("all", "largest")
    )
    assert np.array_equal(kept, largest_components(plain))
    rows = pd.read_parquet(tmp_path / "largest" / "rows.parquet")
    whole = rows[rows["slice_index"] == -1]
    assert whole["n_predicted"].sum() == (kept > 0).sum()
