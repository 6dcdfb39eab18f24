"""The paper's Figure 2: a trained teacher is less sure at the borders of organs than inside them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pixelglobal import config as settings
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.data.stream import LocalStream
from pixelglobal.evaluation.uncertainty_maps import uncertainty_maps
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun

CPU = torch.device("cpu")


def border_and_inside(seed, folder):
    """Mean uncertainty at the borders of organs and inside them, after training with a seed."""
    words = ["pretrain.pixel_outputs=8", "pretrain.epochs=1", "pretrain.steps_per_epoch=800", "pretrain.batch_size=16",
             "pretrain.warmup_epochs=0.1", "pretrain.on_collapse=warn", "network.encoder=test_resnet",
             "prepare.keep_ids=true", f"seed={seed}"]  # fmt: skip
    config = settings.variant(settings.resolve("smoke", words), "gp")
    scans = make_phantom_cohort(folder / "scans", n_patients=6, n_unlabelled=2, size=64, n_slices=8)
    store = prepare(scans, folder / "store", config.prepare).store
    stream = LocalStream(store, store.splits.pretrain, batch_size=16, seed=seed)
    model = pretrain(config, store, stream, LocalRun(folder / "run"), CPU)
    border, inside = ([[] for _ in store.structures] for _ in range(2))
    for case in store.splits.test:
        whole = store.read_case(case)
        for u, label in zip(uncertainty_maps(model, whole.image_hu, CPU).numpy(), whole.label.numpy(), strict=True):
            for i in range(len(store.structures)):
                organ = label == i + 1
                border[i].append(u[ndimage.binary_dilation(organ) & ~ndimage.binary_erosion(organ)])
                inside[i].append(u[ndimage.binary_erosion(organ, iterations=2)])
    return [np.mean([np.concatenate(part).mean() for part in parts]) for parts in (border, inside)]


@pytest.mark.slow
def test_uncertainty_is_higher_at_the_borders_of_organs_than_inside(tmp_path):
    """With few codes, which come to stand for tissues, in the mean of three trainings. With many codes, and after few
    steps, the even inside of an organ, where a pixel looks like the next, is as uncertain as its border."""
    at_border, inside = np.mean([border_and_inside(seed, tmp_path / str(seed)) for seed in (0, 1, 2)], 0)
    assert at_border > inside + 0.02
