"""The watch: it sees a healthy run through, stops runs that collapse on purpose, and changes nothing by looking."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F

from pixelglobal import config as settings
from pixelglobal.data.stream import LocalStream
from pixelglobal.methods.byol import Byol
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.seeds import generator, seeded
from pixelglobal.training.collapse_watch import collapsed_heads
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics
from tests.methods.test_pixel_global import BASE, a_pair

UNIFORM = {"teacher_temperature": 1.0, "student_temperature": 1.0, "collapse_guard": "none"}
SINGLE = {
    "teacher_temperature": 0.01,
    "collapse_guard": "none",
    "learning_rate": 0.03,
    "ema_base": 0.5,
    "batch_size": 32,
    "steps_per_epoch": 80,
}  # a head is judged by its last 1,024 codes
WILD = {"learning_rate": 0.3, "gradient_clip": 0}


def run(tiny, store, folder, **values):
    usual = {
        "flips": True,
        "epochs": 1,
        "steps_per_epoch": 40,
        "batch_size": 8,
        "measure_every_steps": 5,
        "log_every_steps": 5,
    }
    shared = {name: value for name, value in values.items() if name in settings.Pretrain.model_fields}
    ours = {name: value for name, value in values.items() if name not in shared}
    config = settings.with_settings(tiny, pretrain={**usual, "warmup_epochs": 0, **shared}, pixel_global=ours)
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=0)
    pretrain(config, store, stream, LocalRun(folder), torch.device("cpu"))


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_healthy_run_is_measured_and_left_alone(tiny, store, tmp_path):
    run(tiny, store, tmp_path)
    lines = read_metrics(tmp_path)
    for head in ("global", "pixel"):
        for name in ("information", "spread", "rank_me", "rank_me_centered", "codes_used", "mean_entropy"):
            assert f"{name}_{head}" in lines[-1]
    assert collapsed_heads(lines) == []
    ranks = [line["mean_rank_pixel"] for line in lines]
    assert all(0 <= rank < 0.5 for rank in ranks)  # twins find each other better than by chance
    assert min(ranks) < ranks[0]


@pytest.mark.filterwarnings("ignore:step")
@pytest.mark.parametrize(("how", "reason"), [(UNIFORM, "the uniform code"), (SINGLE, "the same code")])
def test_a_run_that_collapses_is_stopped_with_the_reason(tiny, store, tmp_path, how, reason):
    with pytest.raises(RuntimeError, match=f"has collapsed by step .* every input gets {reason}") as stopped:
        run(tiny, store, tmp_path, **how)
    assert "pixel_global.collapse_guard=center" in str(stopped.value)
    assert "pretrain.on_collapse=warn" in str(stopped.value)
    assert len(read_metrics(tmp_path)) < how.get("steps_per_epoch", 40) / 5


def test_a_run_that_collapses_goes_on_if_told_so_and_warns(tiny, store, tmp_path):
    with pytest.warns(UserWarning, match="head: its codes carry 0"):
        run(tiny, store, tmp_path, **UNIFORM, on_collapse="warn")
    assert read_metrics(tmp_path)[-1]["step"] == 39
    assert collapsed_heads(read_metrics(tmp_path)) == ["global", "pixel"]


def test_features_that_shrink_under_a_wild_learning_rate_are_warned_of(tiny, store, tmp_path):
    with pytest.warns(UserWarning, match=r"spread of features 0\.[012]"):
        run(tiny, store, tmp_path, **WILD)


class Shrinking(Byol):
    """Pulls the vectors of all slices to their mean."""

    def losses(self, pair, generator):
        vectors = F.normalize(self.exported()["student.encoder"](pair.view_1)[-1].mean((2, 3)))
        return {"loss": 100 * (vectors - vectors.mean(0).detach()).pow(2).sum(1).mean()}


@pytest.mark.filterwarnings("ignore:step")
def test_the_encoder_of_any_method_is_watched(tiny, store, tmp_path, monkeypatch):
    changes = {"epochs": 1, "batch_size": 8, "steps_per_epoch": 120, "measure_every_steps": 5, "log_every_steps": 5,
               "warmup_epochs": 0, "gradient_clip": 0, "learning_rate": 0.03, "optimizer": "adamw"}  # fmt: skip
    config = settings.with_settings(tiny, pretrain={"method": "byol", **changes})
    stream = LocalStream(store, store.splits.pretrain, batch_size=8, seed=0)
    healthy = settings.with_settings(config, pretrain={"steps_per_epoch": 30, "learning_rate": 0.001})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrain(healthy, store, stream, LocalRun(tmp_path / "healthy"), torch.device("cpu"))
    line = read_metrics(tmp_path / "healthy")[-1]
    assert line["spread_encoder"] > 0.3
    assert line["collapsed_encoder"] == 0
    monkeypatch.setattr("pixelglobal.training.pretrain.method_class", lambda name: Shrinking)
    with pytest.raises(RuntimeError, match=r"the encoder has collapsed by step .*differ little from slice to slice"):
        pretrain(config, store, stream, LocalRun(tmp_path / "shrinking"), torch.device("cpu"))


def test_the_printed_stabiliser_is_named_where_it_is_the_likely_cause():
    printed = PixelGlobal(settings.with_settings(BASE, pixel_global={"stabilizer": "abs_pixel"}))
    assert printed.advice("pixel")[0] == "use pixel_global.stabilizer=hinge (abs_pixel is zero for any constant output)"
    assert not any("hinge" in way for way in printed.advice("global"))


def test_looking_changes_nothing():
    config = settings.with_settings(BASE, pixel_global={"mc_passes": 2})
    method = seeded(lambda: PixelGlobal(config), 0).train()
    pair, before = a_pair(config), copy.deepcopy(method.state_dict())
    found = method.measures(pair, generator(1))
    assert {"global", "pixel"} == set(found)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in method.parameters())
