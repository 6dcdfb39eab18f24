"""The main job on real CT at smoke scale: prepare, pre-train, fine-tune, evaluate, table."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.data.stream import LocalStream
from pixelglobal.evaluation.evaluate import evaluate
from pixelglobal.seeds import generator
from pixelglobal.tables.comparison import comparison_table
from pixelglobal.training.finetune import finetune
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics
from pixelglobal.views.augment import draw_whole_slices, mirror_labels, render_labels

pytestmark = pytest.mark.real_data
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(real_data, tmp_path_factory):
    """Six patients of the real cohort as a cohort of their own; files are linked, not copied."""
    folder = tmp_path_factory.mktemp("real")
    facts = json.loads((real_data / "dataset.json").read_text())
    facts["training"] = [
        {kind: str((real_data / entry[kind]).resolve()) for kind in ("image", "label")}
        for entry in facts["training"][:6]
    ]
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def config():
    return settings.resolve(
        "smoke",
        ["prepare.keep_ids=true", "prepare.image_size=96", "views.crop_size=64", "pretrain.epochs=1",
         "pretrain.steps_per_epoch=6", "finetune.epochs=2", "finetune.steps_per_epoch=6",
         "pretrain.log_every_steps=2"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def real_store(cohort, config, tmp_path_factory):
    made = prepare(cohort, tmp_path_factory.mktemp("real_store") / "store", config.prepare)
    assert not made.quarantined
    return made.store


def test_the_main_job(cohort, real_store, config, tmp_path):
    store, splits = real_store, real_store.splits
    stream = LocalStream(store, splits.pretrain, batch_size=config.pretrain.batch_size, seed=0)
    start = pretrain(config, store, stream, LocalRun(tmp_path / "pre"), CPU)
    assert np.isfinite([line["loss"] for line in read_metrics(tmp_path / "pre")]).all()
    parts = []
    for method, weights in (("random", None), ("full", start)):
        run = LocalRun(tmp_path / method)
        model = finetune(
            config, store, run, CPU, pretrained=weights, train_cases=splits.train, validation_cases=splits.validation
        )
        out = tmp_path / f"{method}_rows"
        columns = {"method": method, "seed": 0}
        parts.append(pd.read_parquet(evaluate(config, store, model, out, CPU, cases=splits.test, columns=columns)))
        for case in splits.test:  # predictions lie on the scan they are of
            scan = next(c.image for c in read_cohort(cohort).cases if c.case == case)
            found, expected = nib.load(out / "predictions" / f"{case}.nii.gz"), nib.as_closest_canonical(nib.load(scan))
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    rows = pd.concat(parts)
    assert len(comparison_table(rows, reference="full").frame) == 6
    # A structure that nobody contoured in a patient is in the rows, marked, and in no metric.
    hidden = rows[~rows["contoured"]]
    assert hidden["dice"].isna().all()


def test_left_and_right_are_on_their_sides_and_stay_there_in_a_mirror(real_store, config):
    """In every patient the left parotid lies at lower columns than the right one, also in mirrored slices."""
    names = list(real_store.structures)
    left, right = names.index("LeftParotid") + 1, names.index("RightParotid") + 1
    swap = mirror_labels(real_store.structures, real_store.left_right_pairs)
    mirror = config.finetune.model_copy(
        update={"flip_horizontal_probability": 1.0, "rotation_probability": 0.0, "translation_fraction": 0.0}
        | {"scale_min": 1.0, "scale_max": 1.0}
    )
    tried = 0
    for case in real_store.cases["case"]:
        batch = real_store.read_case(case)
        both = ((batch.label == left).flatten(1).any(1) & (batch.label == right).flatten(1).any(1)).nonzero().flatten()
        for i in both.tolist():
            draw = draw_whole_slices(1, mirror, 96, generator(0))
            mirrored = render_labels(batch.label[i : i + 1], draw, 96, swap)[0]
            for labels in (batch.label[i], mirrored):
                columns = [(labels == side).nonzero()[:, 1].float().mean() for side in (left, right)]
                assert columns[0] < columns[1], f"{case} slice {i}"
            tried += 1
    assert tried > 10


def test_partial_labels_are_known_for_what_they_are(real_store):
    """A structure without a voxel was not contoured; it is not absent."""
    some_hidden = [real_store.contoured(case) for case in real_store.cases["case"]]
    assert not np.all(some_hidden)
    assert np.any(some_hidden)
