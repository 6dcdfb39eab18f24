"""The paper's Figure 2: a trained teacher is less sure at the borders of organs than inside them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pixelglobal import config as settings
from pixelglobal.phantom import make_phantom_cohort
from pixelglobal.predict import uncertainty_maps
from pixelglobal.prepare import prepare
from pixelglobal.pretrain import pretrain
from pixelglobal.runs import LocalRun
from pixelglobal.store import LocalStream

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_uncertainty_is_higher_at_the_borders_of_organs_than_inside(tmp_path, seed):
    """With few codes, which come to stand for tissues. With many, and after few steps, the even inside of an organ, where
    one pixel looks like the next, is as uncertain as its border."""
    words = ["pretrain.pixel_outputs=8", "pretrain.epochs=1", "pretrain.steps_per_epoch=800", "pretrain.batch_size=16",
             "pretrain.warmup_epochs=0.1", "network.encoder=test_resnet", f"seed={seed}"]  # fmt: skip
    config = settings.variant(settings.resolve("smoke", words), "gp")
    folder = make_phantom_cohort(tmp_path / "scans", n_patients=6, n_unlabelled=2, size=64, n_slices=8)
    store = prepare(folder, tmp_path / "store", config.prepare).store
    stream = LocalStream(store, store.splits.pretrain, batch_size=16, seed=seed)
    model = pretrain(config, store, stream, LocalRun(tmp_path / "run"), CPU)
    border, inside = ([[] for _ in store.structures] for _ in range(2))
    for case in store.splits.test:
        whole = store.read_case(case)
        for u, label in zip(uncertainty_maps(model, whole.image_hu, CPU).numpy(), whole.label.numpy(), strict=True):
            for i in range(len(store.structures)):
                organ = label == i + 1
                border[i].append(u[ndimage.binary_dilation(organ) & ~ndimage.binary_erosion(organ)])
                inside[i].append(u[ndimage.binary_erosion(organ, iterations=2)])
    at_borders, within = (np.mean([np.concatenate(part).mean() for part in parts]) for parts in (border, inside))
    assert at_borders > within + 0.02
