"""Encoder weights from a local file, and never from anywhere else."""

import json
import socket

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from experiments.runner.stages import finetune_stage, pretrain_stage
from experiments.studies.grid import method_config
from pixelglobal import config as settings
from pixelglobal.evaluation.loaded_model import load_model
from pixelglobal.networks.encoder_weights import load_encoder_weights
from pixelglobal.networks.unet import ResUNet
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.finetune import finetune
from pixelglobal.training.initial_segmenter import initial_segmenter
from pixelglobal.training.runs import LocalRun

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def colour_file(tmp_path_factory):
    """A file as timm's are: the whole classifier, three input channels."""
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), file)
    return file


def with_weights(config, file):
    return settings.with_settings(config, network={"weights": str(file)})


def test_a_grey_slice_has_the_features_of_three_equal_channels(tiny, colour_file):
    encoder = ResUNet(tiny.network).encoder
    report = load_encoder_weights(encoder, "resnet10t", colour_file)
    assert report.split()[0] == report.split()[2]
    colour = timm.create_model("resnet10t", pretrained=False, features_only=True)
    whole = timm.create_model("resnet10t", pretrained=False)
    whole.load_state_dict(load_file(colour_file))
    colour.load_state_dict({k: v for k, v in whole.state_dict().items() if k in colour.state_dict()})
    image = torch.randn(2, 1, 32, 32)
    for ours, theirs in zip(encoder.eval()(image), colour.eval()(image.expand(2, 3, 32, 32)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_names_of_stages_are_found(tmp_path):
    """An encoder of another family, whose pyramid names its stages otherwise than the file."""
    torch.manual_seed(2)
    whole = timm.create_model("convnext_atto", pretrained=False).state_dict()
    save_file(whole, tmp_path / "w.safetensors")
    encoder = timm.create_model("convnext_atto", pretrained=False, features_only=True, in_chans=1)
    report = load_encoder_weights(encoder, "convnext_atto", tmp_path / "w.safetensors")
    state = encoder.state_dict()
    assert report.startswith(f"{len(state)} of {len(state)} tensors")
    torch.testing.assert_close(state["stem_0.weight"], whole["stem.0.weight"].sum(1, keepdim=True))
    last = "blocks.1.mlp.fc2.weight"
    torch.testing.assert_close(state[f"stages_3.{last}"], whole[f"stages.3.{last}"])


def test_a_file_that_does_not_fit_is_refused(tiny, colour_file, tmp_path):
    encoder = ResUNet(tiny.network).encoder
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    other = timm.create_model("resnet14t", pretrained=False, features_only=True, in_chans=1)
    with pytest.raises(ValueError, match=r"does not fit network\.encoder='resnet14t': \d+ of its \d+ tensors are not"):
        load_encoder_weights(other, "resnet14t", colour_file)
    with pytest.raises(ValueError, match=r"network\.weights='.*missing\.safetensors' is no file; give a \.safetensors"):
        load_encoder_weights(encoder, "resnet10t", tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match=r"cannot read network\.weights='.*text\.safetensors'"):
        load_encoder_weights(encoder, "resnet10t", tmp_path / "text.safetensors")
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_fine_tuning_starts_from_the_file_and_says_so(tiny, store, colour_file, tmp_path):
    config = with_weights(tiny, colour_file)
    start = initial_segmenter(config, store, None, CPU, torch.ones(len(store.structures) + 1, dtype=torch.float64))
    saved = load_file(colour_file)
    torch.testing.assert_close(
        start.model.backbone.encoder.state_dict()["layer1.0.conv1.weight"], saved["layer1.0.conv1.weight"]
    )
    assert start.transferred == (start.model.backbone.encoder,)
    short = settings.with_settings(config, finetune={"epochs": 1})
    cases = {"train_cases": store.splits.train, "validation_cases": store.splits.validation}
    facts = read_model(finetune(short, store, LocalRun(tmp_path), CPU, pretrained=None, **cases))[1]
    assert "tensors of the encoder from resnet10t.safetensors" in facts["transfer"]
    assert "weights" not in facts["network"]  # a path of this machine


def test_what_the_file_holds_is_in_the_address_of_the_run_that_starts_from_it(tiny, store, colour_file, tmp_path):
    def address(config, pretrained=None):
        return finetune_stage(tmp_path, config, store, pretrained, store.splits.train, store.splits.validation).name

    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(colour_file.read_bytes())
    other = tmp_path / "other.safetensors"
    save_file({key: value + 1 for key, value in load_file(colour_file).items()}, other)
    here = address(with_weights(tiny, colour_file))
    assert here == address(with_weights(tiny, moved))
    assert len({address(tiny), here, address(with_weights(tiny, other))}) == 3
    before = pretrain_stage(tmp_path, tiny, store)
    assert address(with_weights(tiny, other), before) == address(tiny, before)
    with pytest.raises(ValueError, match=r"cannot read network\.weights='gone'"):
        address(with_weights(tiny, "gone"))


def test_studies_have_random_weights_and_those_of_the_file(tiny, colour_file):
    config = with_weights(tiny, colour_file)
    assert method_config(config, "imagenet").network.weights == str(colour_file)
    assert method_config(config, "random").network.weights is None
    with pytest.raises(
        ValueError, match=r"method imagenet starts from a file: give network\.weights=FILE\.safetensors"
    ):
        method_config(tiny, "imagenet")


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18", "local-dir:/tmp/x", "timm/resnet18"]
)
def test_no_name_makes_timm_ask_a_network(tiny, name, tmp_path, monkeypatch):
    """Neither a setting nor a model folder that somebody sent: sockets are blocked."""
    asked = []

    def refuse(*arguments, **options):
        asked.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ValueError, match=r"would have timm read a model from a hub or a folder; give the name"):
        settings.with_settings(tiny, network={"encoder": name})
    facts = {"kind": "pretrained", "network": {"encoder": name}, "parts": ["encoder"], "scale": {}}
    for kind in ("pretrained", "segmenter"):
        (tmp_path / "model.json").write_text(json.dumps({**facts, "kind": kind, "structures": ["A"]}))
        save_file({"student.x": torch.zeros(1)}, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match="would have timm read a model from a hub or a folder"):
            load_model(tmp_path)
    assert not asked
