"""Preset `paper`, reduced in size but with its numbers and readings, trains every part of the method."""

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.data.stream import LocalStream
from pixelglobal.training.collapse_watch import collapsed_heads
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics

# Sizes alone: LARS at 0.2, batches of 8, 2 epochs of warm-up, no clipping and the losses are those of the preset.
REDUCED = [
    "prepare.image_size=32",
    "views.crop_size=32",
    "network.encoder=resnet10t",
    "network.decoder_widths=[16,16,8,8,8]",
    "pretrain.epochs=8",
    "pretrain.steps_per_epoch=6",
    "pretrain.precision=fp32",
    "pretrain.measure_every_steps=6",
    "pixel_global.mc_passes=2",
    "pixel_global.global_outputs=64",
    "pixel_global.head_hidden=64",
    "pixel_global.pixel_head_hidden=32",
    "pixel_global.pixel_head_bottleneck=16",
]


def metrics(preset, variant, store, folder, **pretrain_settings):
    config = settings.variant(settings.resolve(preset, REDUCED), variant)
    config = settings.with_settings(config, pretrain=pretrain_settings)
    stream = LocalStream(store, store.splits.pretrain, batch_size=8, seed=0)
    pretrain(config, store, stream, LocalRun(folder), torch.device("cpu"))
    return read_metrics(folder)


@pytest.mark.filterwarnings("ignore:step")  # a spread of features of 0.2 warns, and is no collapse
@pytest.mark.parametrize("variant", ["go", "gp", "gpc", "full"])
def test_a_reduced_paper_preset_trains_without_collapse(store, tmp_path, variant):
    lines = metrics("paper", variant, store, tmp_path)  # which stops where a head collapses
    assert lines[-1]["step"] == 47
    assert collapsed_heads(lines) == []
    if variant != "go":
        assert lines[-1]["information_pixel"] > 0.15


def test_one_patient_alone_is_refused_where_slices_have_partners(store, tmp_path, monkeypatch):
    """Without partners of other patients the local loss would be zero in silence."""
    cases = store.cases.assign(patient="the only one")
    monkeypatch.setattr(type(store), "cases", property(lambda _: cases))
    with pytest.raises(ValueError, match="has 1 patient, and pixel_global compares each slice with one of another"):
        metrics("paper", "full", store, tmp_path)
