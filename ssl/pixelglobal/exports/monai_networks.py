"""For MONAI: a whole `FlexibleUNet` where its ResNet is ours, else the encoder as its `ResNet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pixelglobal.exports.certificate import Certificate, ExportError, Parts, difference_of, library, write_tensors
from pixelglobal.exports.smp_unet import head_tensors

WHOLE = ("resnet50", "resnet101", "resnet152")  # MONAI's smaller ones have shortcuts without weights
LAYERS = {"resnet18": ("basic", [2, 2, 2, 2]), "resnet34": ("basic", [3, 4, 6, 3])}
BLOCK = {"0": "conv_0.conv", "1": "conv_0.adn.N", "3": "conv_1.conv", "4": "conv_1.adn.N"}  # ours, theirs


@torch.no_grad()
def export(parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    """Write what MONAI can hold, and compare its outputs there with ours.

    Raises ExportError for encoders that MONAI does not have.
    """
    nets = library("monai.networks.nets")
    if parts.encoder_name in WHOLE and parts.decoder is not None:
        return _flexible_unet(nets, parts, images_hu, path)
    if parts.encoder_name in LAYERS or parts.encoder_name in WHOLE:
        return _encoder(nets, parts, images_hu, path)
    raise ExportError(
        f"MONAI has no {parts.encoder_name}; expected one of {', '.join([*LAYERS, *WHOLE])}. Export with "
        "--to torchscript, which MONAI's bundles load, or train with network.encoder=resnet50"
    )


def _flexible_unet(nets: Any, parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    assert parts.decoder is not None
    arguments = {
        "in_channels": parts.in_channels, "out_channels": parts.classes, "backbone": parts.encoder_name,
        "spatial_dims": 2, "decoder_channels": parts.decoder_widths, "norm": ("batch", {"eps": 1e-5}), "pre_conv": None,
    }  # fmt: skip
    network = nets.FlexibleUNet(**arguments).eval()
    tensors = {f"encoder.{key}": value for key, value in parts.encoder.state_dict().items()}
    tensors |= {f"decoder.{key}": value for key, value in _decoder_tensors(parts).items()}
    tensors |= head_tensors(parts)
    write_tensors(path, tensors)
    missing, unexpected = network.load_state_dict(load_file(path), strict=False)
    lacking = [key for key in missing if parts.classifier is not None or not key.startswith("segmentation_head.")]
    if lacking or unexpected:
        raise ExportError(f"MONAI's FlexibleUNet has other tensors: {', '.join((lacking + unexpected)[:3])}")
    x = parts.input_of(images_hu)
    whole = parts.classifier is not None
    theirs = network(x) if whole else network.decoder(network.encoder(x), network.skip_connect)
    difference = difference_of([theirs], [parts.model.network(x)], "MONAI's FlexibleUNet")
    words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    usage = (
        "import monai, safetensors.torch",
        f"model = monai.networks.nets.FlexibleUNet({words})",
        f'model.load_state_dict(safetensors.torch.load_file("{path.name}"){"" if whole else ", strict=False"})',
    )
    left_out = () if whole else ("the segmentation head, which pre-training does not have",)
    return Certificate(path, "MONAI", "class scores" if whole else "pixel features", difference, usage, left_out)


def _encoder(nets: Any, parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    block, layers = LAYERS.get(parts.encoder_name, ("bottleneck", [3, 4, 6, 3]))
    if parts.encoder_name in ("resnet101", "resnet152"):
        layers = [3, 4, 23, 3] if parts.encoder_name == "resnet101" else [3, 8, 36, 3]
    words = (f'"{block}", {layers}, [64, 128, 256, 512], spatial_dims=2, n_input_channels={parts.in_channels}, '
             "conv1_t_stride=2, bias_downsample=False, feed_forward=False")  # fmt: skip
    network = nets.ResNet(
        block, layers, [64, 128, 256, 512], spatial_dims=2, n_input_channels=parts.in_channels, conv1_t_stride=2,
        bias_downsample=False, feed_forward=False,
    ).eval()  # fmt: skip
    write_tensors(path, dict(parts.encoder.state_dict()))
    network.load_state_dict(load_file(path))
    x = parts.input_of(images_hu)
    theirs = network(x)  # the mean over the last map, without a classifier
    difference = difference_of([theirs], [parts.encoder(x)[-1].mean((2, 3))], "MONAI's ResNet")
    usage = (
        "import monai, safetensors.torch",
        f"model = monai.networks.nets.ResNet({words})",
        f'model.load_state_dict(safetensors.torch.load_file("{path.name}"))',
    )
    left_out = ("decoder and classifier: MONAI's FlexibleUNet has another " + parts.encoder_name,)
    return Certificate(path, "MONAI", "the encoder's vector", difference, usage, left_out)


def _decoder_tensors(parts: Parts) -> dict[str, Tensor]:
    """The decoder under MONAI's names; MONAI joins the encoder's map in front, we behind."""
    assert parts.decoder is not None
    feature_info: Any = parts.encoder.feature_info
    before = [feature_info.channels()[-1], *parts.decoder_widths]  # channels that come from the block before
    renamed = {}
    for key, value in parts.decoder.state_dict().items():
        blocks, number, layer, name = key.split(".")
        if layer == "0":
            own = before[int(number)]
            value = torch.cat([value[:, own:], value[:, :own]], 1)
        renamed[f"{blocks}.{number}.convs.{BLOCK[layer]}.{name}"] = value
    return renamed
