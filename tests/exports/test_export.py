"""Exported networks, loaded by the libraries themselves: the same features and scores, and nothing kept where not."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import pixelglobal as pg
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.exports import certificate as certificates
from pixelglobal.exports import timm_encoder
from pixelglobal.exports.certificate import ExportError, difference_of
from pixelglobal.training.checkpoints import WEIGHTS_DIGEST
from tests.support import ROOT, guessing_segmenter

GRID = StoredGrid(64, -1024.0, 325.0, None, True)
STRUCTURES = ("Liver", "Spleen")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return guessing_segmenter(tmp_path_factory.mktemp("small") / "model", GRID, STRUCTURES)


def model_over(encoder, folder):
    return guessing_segmenter(folder / "model", GRID, STRUCTURES, encoder=encoder)


def pretrained_of(segmenter, folder, parts):
    """The same weights as a pre-training exports them."""
    folder.mkdir()
    facts = json.loads((segmenter / "model.json").read_text())
    facts |= {"kind": "pretrained", "parts": parts, "pretrain": {"method": "byol"}}
    del facts[WEIGHTS_DIGEST]  # other weights than those it is of
    (folder / "model.json").write_text(json.dumps(facts))
    tensors = load_file(segmenter / "model.safetensors")
    names = {name: name.replace("segmenter.backbone", "student") for name in tensors if ".backbone." in name}
    kept = {new: tensors[old] for old, new in names.items() if new.split(".")[1] in parts}
    save_file(kept, folder / "model.safetensors")
    return folder


def images_hu(n=2):
    return torch.randint(-1100, 600, (n, 64, 64), generator=torch.Generator().manual_seed(0)).float()


def ours(model, x):
    with torch.no_grad():
        return pg.load_model(model)(x)


def input_of(model, x):
    scale = pg.load_model(model).scale
    return ((x.clamp(scale.hu_min, scale.hu_max) - scale.mean_hu) / scale.std_hu).unsqueeze(1)


def loaded_by(certificate, folder, monkeypatch):
    """What the printed lines leave in `model`, when they are run beside the file."""
    monkeypatch.chdir(folder)
    variables = {}
    exec("\n".join(certificate.usage), variables)
    return variables["model"].eval()


def test_timm_loads_the_encoder_strictly(model, tmp_path, monkeypatch):
    certificate = pg.export(model, tmp_path / "encoder.safetensors", to="timm")
    theirs = loaded_by(certificate, tmp_path, monkeypatch)
    with torch.no_grad():
        features = theirs.forward_features(input_of(model, images_hu()))
        expected = pg.load_model(model).network.backbone.encoder(input_of(model, images_hu()))[-1]
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert certificate.difference <= 1e-5
    assert certificate.left_out == ("decoder", "classifier")


def test_layers_of_timm_behind_the_pyramid_are_named(tmp_path, monkeypatch):
    """ConvNeXt has a norm behind its pyramid, which no pre-training has seen, and calls its stages otherwise."""
    segmenter = guessing_segmenter(tmp_path / "model", GRID, STRUCTURES, encoder="test_convnext")
    certificate = pg.export(segmenter, tmp_path / "encoder.safetensors", to="timm")
    assert any("behind the feature pyramid" in what for what in certificate.left_out)
    theirs = loaded_by(certificate, tmp_path, monkeypatch)
    with torch.no_grad():
        expected = pg.load_model(segmenter).network.backbone.encoder(input_of(segmenter, images_hu()))
        for a, b in zip(theirs(input_of(segmenter, images_hu())), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.export
@pytest.mark.parametrize("encoder", ["resnet10t", "resnet18"])
def test_smp_gives_our_scores(encoder, tmp_path, monkeypatch):
    segmenter = model_over(encoder, tmp_path)
    theirs = loaded_by(pg.export(segmenter, tmp_path / "unet.safetensors", to="smp"), tmp_path, monkeypatch)
    with torch.no_grad():
        scores = theirs(input_of(segmenter, images_hu()))
    torch.testing.assert_close(scores, ours(segmenter, images_hu()), rtol=1e-5, atol=1e-4)


@pytest.mark.export
def test_smp_takes_a_pretrained_encoder_and_decoder(model, tmp_path, monkeypatch):
    pretrained = pretrained_of(model, tmp_path / "pre", ["encoder", "decoder"])
    certificate = pg.export(pretrained, tmp_path / "unet.safetensors", to="smp")
    assert "segmentation head" in certificate.left_out[0]
    theirs = loaded_by(certificate, tmp_path, monkeypatch)
    with torch.no_grad():
        x = input_of(pretrained, images_hu())
        features = theirs.decoder(theirs.encoder(x))
    torch.testing.assert_close(features, ours(pretrained, images_hu()), rtol=1e-5, atol=1e-4)


@pytest.mark.export
def test_monai_gives_our_scores_where_it_has_our_network(tmp_path, monkeypatch):
    segmenter = model_over("resnet50", tmp_path)
    certificate = pg.export(segmenter, tmp_path / "unet.safetensors", to="monai")
    theirs = loaded_by(certificate, tmp_path, monkeypatch)
    with torch.no_grad():
        scores = theirs(input_of(segmenter, images_hu(1)))
    torch.testing.assert_close(scores, ours(segmenter, images_hu(1)), rtol=1e-5, atol=1e-4)


@pytest.mark.export
def test_monai_takes_the_encoder_of_a_smaller_network_and_refuses_others(model, tmp_path, monkeypatch):
    segmenter = model_over("resnet18", tmp_path)
    certificate = pg.export(segmenter, tmp_path / "encoder.safetensors", to="monai")
    assert certificate.left_out[0].startswith("decoder and classifier")
    theirs = loaded_by(certificate, tmp_path, monkeypatch)
    with torch.no_grad():
        x = input_of(segmenter, images_hu())
        expected = pg.load_model(segmenter).network.backbone.encoder(x)[-1].mean((2, 3))
        torch.testing.assert_close(theirs(x), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ExportError, match="MONAI has no resnet10t; expected one of resnet18"):
        pg.export(model, tmp_path / "no.safetensors", to="monai")


@pytest.mark.export
def test_nnunet_builds_the_network_of_the_plans_file_and_loads_the_checkpoint(model, tmp_path):
    pytest.importorskip("nnunetv2", reason="nnU-Net 2.8 asks for an older timm; see docs/how-to/export.md")
    certificate = pg.export(model, tmp_path / "weights.pth", to="nnunet")
    assert certificate.difference <= 1e-5
    assert (tmp_path / "pixelglobalPlans.json").is_file()
    assert any("segmentation layers" in what for what in certificate.left_out)


def test_the_network_for_nnunet_is_ours_with_scores_at_every_resolution(model):
    """What nnU-Net asks of a network, without it: names of tensors, deep supervision, and our scores."""
    from pixelglobal.networks.nnunet import NnUnetResUNet

    facts = json.loads((model / "model.json").read_text())["network"]
    encoder, widths = facts["encoder"], facts["decoder_widths"]
    network = NnUnetResUNet(1, 3, encoder, widths, strides=[[1, 1]] + [[2, 2]] * 5, deep_supervision=True).eval()
    backbone, classifier = (getattr(pg.load_model(model).network, part) for part in ("backbone", "classifier"))
    state = {
        f"{part}.{k}": v for part in ("encoder", "decoder") for k, v in getattr(backbone, part).state_dict().items()
    }
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("decoder.seg_layers.") for name in missing)
    network.decoder.seg_layers[-1].load_state_dict(classifier.state_dict())
    with torch.no_grad():
        outputs = network(input_of(model, images_hu()))
        assert [output.shape[-1] for output in outputs] == [64, 32, 16, 8, 4]
        network.decoder.deep_supervision = False
        torch.testing.assert_close(network(input_of(model, images_hu())), outputs[0])
    torch.testing.assert_close(outputs[0], ours(model, images_hu()), rtol=1e-5, atol=1e-4)


PROGRAMS = """
import sys
from pixelglobal.cli import main
main()
"""


def exported_by_the_command(run, to, out, *words):
    """In a process of its own, where no test watches the shapes: a compiler would look into the watcher."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAMS, "export", str(run), "--to", to, "--out", str(out), *words],
        capture_output=True, text=True, check=False, env={**__import__("os").environ, "PYTHONPATH": str(ROOT / "ssl")},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_torchscript_takes_hu_of_any_size(model, tmp_path):
    said = exported_by_the_command(model, "torchscript", tmp_path / "model.pt")
    assert "Checked: torch.jit loaded model.pt, and its scores for two sizes differ from ours by at most" in said
    program = torch.jit.load(tmp_path / "model.pt")
    larger = torch.nn.functional.pad(images_hu(3), (0, 96, 32, 0), value=-1024)
    with torch.no_grad():
        torch.testing.assert_close(program(larger.unsqueeze(1)), ours(model, larger), rtol=1e-4, atol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.md", "model.safetensors"}


@pytest.mark.export
def test_onnxruntime_takes_hu_of_any_size(model, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    exported_by_the_command(model, "onnx", tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    larger = torch.nn.functional.pad(images_hu(3), (0, 96, 32, 0), value=-1024)
    [scores] = session.run(None, {"image_hu": larger.unsqueeze(1).numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), ours(model, larger), rtol=1e-4, atol=1e-4)


def test_the_card_says_what_a_user_must_know(model, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.full((70, 70, 3), 40, np.int16), np.eye(4)), scan)
    pg.export(model, tmp_path / "encoder.safetensors", to="timm", scan=scan, licence="CC BY 4.0")
    card = (tmp_path / "encoder.md").read_text()
    for words in ("encoder resnet10t", "1 Liver, 2 Spleen", "(HU - -600) / 480", "[-1024, 325]", "no medical device",
                  "CC BY 4.0", "checkpoint_path", "Slices of 64 x 64", "50.0 %"):  # fmt: skip
        assert words in card, words


def test_outputs_that_differ_are_kept_nowhere(model, tmp_path, monkeypatch):
    read = timm_encoder.load_file
    monkeypatch.setattr(timm_encoder, "load_file", lambda path: {k: v * 1.001 for k, v in read(path).items()})
    with pytest.raises(ExportError, match="gives outputs that differ from ours by"):
        pg.export(model, tmp_path / "out" / "encoder.safetensors", to="timm")
    assert not list((tmp_path / "out").iterdir())


def test_the_difference_is_of_the_greatest_magnitude():
    large = torch.tensor([1000.0, 0.0])
    assert difference_of([large + 0.005], [large], "it") == pytest.approx(5e-6, rel=0.1)
    with pytest.raises(ExportError, match="differ from ours by 2"):
        difference_of([large + 0.02], [large], "it")
    with pytest.raises(ExportError, match="differ from ours by nan"):
        difference_of([large * float("nan")], [large], "it")
    with pytest.raises(ExportError, match="outputs of the shapes"):
        difference_of([large[:1]], [large], "it")


def test_what_cannot_be_exported_is_refused_in_one_sentence(model, tmp_path, monkeypatch):
    encoder = pretrained_of(model, tmp_path / "pre", ["encoder"])
    for to, name in (("smp", "a.safetensors"), ("nnunet", "a.pth")):
        with pytest.raises(ExportError, match="an encoder without a decoder; export it with --to timm"):
            pg.export(encoder, tmp_path / name, to=to)
    with pytest.raises(ValueError, match=r"is a \.onnx file; give --out"):
        pg.export(model, tmp_path / "model.pt", to="onnx")
    with pytest.raises(ValueError, match="--to keras: expected one of timm, smp"):
        pg.export(model, tmp_path / "model.h5", to="keras")
    with pytest.raises(ValueError, match="holds no model"):
        pg.export(tmp_path, tmp_path / "model.safetensors", to="timm")
    monkeypatch.setitem(sys.modules, "no_such_library", None)
    with pytest.raises(ExportError, match=r"pip install 'pixelglobal\[export\]'"):
        certificates.library("no_such_library")
