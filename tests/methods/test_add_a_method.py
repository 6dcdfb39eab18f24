"""The page docs/how-to/add-a-method.md: its code runs as it is printed, and does what it says."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch

from experiments.runner.stages import pretrain_stage
from pixelglobal import config as settings
from pixelglobal.data.stream import LocalStream
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.finetune import finetune
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics
from tests.methods.test_methods import a_pair, built

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-method.md"
CPU = torch.device("cpu")


@pytest.fixture
def simsiam(tmp_path, monkeypatch):
    """The module that the page tells to save."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "simsiam.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import simsiam

    yield simsiam
    del sys.modules["simsiam"]


def with_simsiam(config, **changes):
    values = {"hidden": 32, "outputs": 16, **changes}
    return settings.with_settings(config, pretrain={"method": "simsiam:SimSiam"}, simsiam=values)


def test_the_page_is_short():
    assert len(PAGE.read_text().splitlines()) < 120


def test_the_page_s_method_pre_trains_and_its_encoder_fine_tunes(simsiam, tiny, store, tmp_path):
    config = settings.with_settings(with_simsiam(tiny), pretrain={"epochs": 4 * tiny.pretrain.epochs})
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=0)
    model = pretrain(config, store, stream, LocalRun(tmp_path / "pre"), CPU)
    losses = [line["loss"] for line in read_metrics(tmp_path / "pre")]
    assert len(losses) == 24
    assert all(0 <= loss <= 2 for loss in losses)
    assert sum(losses[-6:]) < sum(losses[:6])
    facts = read_model(model)[1]
    assert (facts["parts"], facts["simsiam"]["hidden"]) == (["encoder"], 32)
    cases = {"train_cases": store.splits.train, "validation_cases": store.splits.validation}
    tuned = finetune(config, store, LocalRun(tmp_path / "ft"), CPU, pretrained=model, **cases)
    assert "tensors transferred" in read_model(tuned)[1]["transfer"]


def test_its_settings_are_checked_and_enter_its_address(simsiam, tiny, store, tmp_path):
    with pytest.raises(ValueError, match="unknown setting 'hiden' in SimSiamSettings: did you mean 'hidden'"):
        with_simsiam(tiny, hiden=3)
    here, there = (pretrain_stage(tmp_path, with_simsiam(tiny, outputs=n), store).name for n in (16, 24))
    assert here != there


def test_its_loss_against_loops(simsiam, tiny):
    """Each view's prediction and the other's vector, whose gradient is stopped."""
    g = generator(2)
    prediction, target = (torch.randn(3, 5, generator=g, requires_grad=True) for _ in range(2))
    loss = simsiam.disagreement(prediction, target)
    cosines = [
        sum(p * t for p, t in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
        for a, b in zip(prediction.tolist(), target.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(1 - sum(cosines) / 3, abs=1e-6)
    loss.backward()
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None
    method = built(with_simsiam(tiny)).eval()
    pair = a_pair(method)
    (v_1, p_1), (v_2, p_2) = (method.student(view) for view in (pair.view_1, pair.view_2))
    by_hand = (simsiam.disagreement(p_1, v_2) + simsiam.disagreement(p_2, v_1)) / 2
    torch.testing.assert_close(method.losses(pair, g)["loss"], by_hand)
