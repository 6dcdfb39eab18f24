"""Weights on disk: an exact round trip, no code in the files, and wrong files named as such."""

import json

import pytest
import torch
from torch import nn

from pixelglobal.config.schema import Network, Pretrain
from pixelglobal.networks.unet import ResUNet
from pixelglobal.training.checkpoints import load_training_state, read_model, save_model, save_training_state, transfer
from pixelglobal.training.optim import pretraining_optimizer


def trained(kind, steps, net=None, optimizer=None):
    if net is None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        optimizer = pretraining_optimizer(net, Pretrain(optimizer=kind, learning_rate=0.001))
    for step in range(*steps):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("kind", ["lars", "sgd", "adamw"])
def test_saved_and_loaded_training_goes_on_bit_for_bit(tmp_path, kind):
    whole, _ = trained(kind, (0, 6))
    half, optimizer = trained(kind, (0, 3))
    save_training_state(tmp_path / "s", {"net": half}, optimizer, {"epoch": 3})
    fresh, fresh_optimizer = trained(kind, (0, 1))
    assert load_training_state(tmp_path / "s", {"net": fresh}, fresh_optimizer) == {"epoch": 3}
    trained(kind, (3, 6), fresh, fresh_optimizer)
    for (name, a), b in zip(whole.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
        assert torch.isfinite(a.float()).all()


def test_a_state_folder_is_complete_or_absent(tmp_path):
    net, optimizer = trained("adamw", (0, 1))
    with pytest.raises(TypeError):
        save_training_state(tmp_path / "s", {"net": net}, optimizer, {"bad": object()})
    assert not (tmp_path / "s").exists()


def backbone(**changes):
    return ResUNet(Network(**{"encoder": "resnet10t", "decoder_widths": (16, 16, 8, 8, 8), **changes}))


def pretrained(folder, net):
    facts = {"kind": "pretrained", "network": {"encoder": "resnet10t", "decoder_widths": [16, 16, 8, 8, 8]}}
    return save_model(folder, {"student.encoder": net.encoder, "student.decoder": net.decoder}, facts)


def test_transfer_copies_what_it_says(tmp_path):
    source, target = backbone(), backbone()
    folder = pretrained(tmp_path / "m", source)
    report = transfer(folder, "student", {"encoder": target.encoder})
    assert report.matched == report.total == len(source.encoder.state_dict())
    assert torch.equal(source.encoder.conv1[0].weight, target.encoder.conv1[0].weight)
    assert not torch.equal(source.decoder.blocks[0][0].weight, target.decoder.blocks[0][0].weight)
    transfer(folder, "student", {"encoder": target.encoder, "decoder": target.decoder})
    theirs, ours = source.state_dict(), target.state_dict()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_a_wrong_checkpoint_is_refused_with_the_numbers(tmp_path):
    folder = pretrained(tmp_path / "m", backbone())
    other = backbone(encoder="resnet18")
    with pytest.raises(
        ValueError, match=r"only \d+ of \d+ tensors of the encoder match.*90%.*'resnet10t'.*same network settings"
    ):
        transfer(folder, "student", {"encoder": other.encoder})
    with pytest.raises(ValueError, match="holds no teacher; it has: student"):
        transfer(folder, "teacher", {"encoder": backbone().encoder})


def test_a_folder_that_holds_no_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model: model\.safetensors is missing.*pixelglobal pretrain"):
        read_model(tmp_path)
    folder = pretrained(tmp_path / "m", backbone())
    (folder / "model.safetensors").write_bytes(b"12345678 torn")
    with pytest.raises(ValueError, match=r"cannot read the model in .*m: "):
        read_model(folder)


def test_model_facts_are_plain_json(tmp_path):
    folder = pretrained(tmp_path / "m", backbone())
    assert json.loads((folder / "model.json").read_text())["kind"] == "pretrained"
