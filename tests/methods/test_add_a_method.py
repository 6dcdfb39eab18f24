"""The page docs/how-to/add-a-method.md: its code runs as it is printed, and does what it says."""

import re
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from experiments.runner.stages import pretrain_stage
from pixelglobal import config as settings
from pixelglobal.data.stream import LocalStream
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.finetune import finetune
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics
from pixelglobal.views.augment import draw_views
from pixelglobal.views.geometry import to_source

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-method.md"
CPU = torch.device("cpu")


@pytest.fixture
def pixpro(tmp_path, monkeypatch):
    """The module that the page tells to save."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "pixpro.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import pixpro

    yield pixpro
    del sys.modules["pixpro"]


def with_pixpro(config, **changes):
    values = {"level": -3, "hidden": 32, "outputs": 16, **changes}
    return settings.with_settings(config, pretrain={"method": "pixpro:PixPro"}, pixpro=values)


def test_the_page_is_short():
    assert len(PAGE.read_text().splitlines()) < 120


def test_the_page_s_method_pre_trains_and_its_encoder_fine_tunes(pixpro, tiny, store, tmp_path):
    config = with_pixpro(tiny)
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=0)
    model = pretrain(config, store, stream, LocalRun(tmp_path / "pre"), CPU)
    losses = [line["loss"] for line in read_metrics(tmp_path / "pre")]
    assert len(losses) == 6
    assert all(-4 <= loss <= 4 for loss in losses)
    assert losses[-1] < losses[0]
    facts = read_model(model)[1]
    assert (facts["parts"], facts["pixpro"]["hidden"]) == (["encoder"], 32)
    cases = {"train_cases": store.splits.train, "validation_cases": store.splits.validation}
    tuned = finetune(config, store, LocalRun(tmp_path / "ft"), CPU, pretrained=model, **cases)
    assert "tensors transferred" in read_model(tuned)[1]["transfer"]


def test_its_settings_are_checked_and_enter_its_address(pixpro, tiny, store, tmp_path):
    with pytest.raises(ValueError, match="unknown setting 'hiden' in PixProSettings: did you mean 'hidden'"):
        with_pixpro(tiny, hiden=3)
    here, there = (pretrain_stage(tmp_path, with_pixpro(tiny, power=p), store).name for p in (1.0, 2.0))
    assert here != there


def test_its_loss_against_loops(pixpro):
    """Pairs of cells by the distance of their centres in the slice, and the mean cosine of those pairs."""
    views = settings.Views(crop_size=32)
    maps_1, maps_2 = (draw_views(2, views, 48, generator(seed)).maps for seed in (0, 1))
    g, cells, cell = generator(2), 4, 8.0
    y, x = (torch.randn(2, 5, cells**2, generator=g, dtype=torch.float64) for _ in range(2))
    positive = pixpro.same_place(maps_1, maps_2, 32, cells, 0.7)
    for n in range(2):
        scales = [float(m[n, :, 0].norm()) for m in (maps_1, maps_2)]
        total, count = 0.0, 0
        for i, j in product(range(cells**2), repeat=2):
            centres = [torch.tensor([[(k % cells + 0.5) * cell, (k // cells + 0.5) * cell]]).double() for k in (i, j)]
            a, b = (to_source(m[n : n + 1], c)[0, 0] for m, c in zip((maps_1, maps_2), centres, strict=True))
            near = float((a - b).norm()) / (max(scales) * cell * 2**0.5) < 0.7
            assert bool(positive[n, i, j]) == near
            if near:
                total += float(F.cosine_similarity(y[n, :, i], x[n, :, j], dim=0))
                count += 1
        assert count > 0
        ours = pixpro.agreement(y[n : n + 1], x[n : n + 1], positive[n : n + 1])
        assert ours.item() == pytest.approx(total / count, abs=1e-5)
