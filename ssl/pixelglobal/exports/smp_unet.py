"""Encoder, decoder and classifier for `segmentation_models_pytorch.Unet`, which is built as our network is."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pixelglobal.exports.certificate import Certificate, ExportError, Parts, difference_of, library, write_tensors
from pixelglobal.networks.unet import Decoder

LAYERS = {"0": "conv1.0", "1": "conv1.1", "3": "conv2.0", "4": "conv2.1"}  # of a block: ours, theirs


@torch.no_grad()
def export(parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    """Write the network, and compare its scores (of a pre-training its pixel features) in smp.Unet with ours.

    smp's classifier is a 3 x 3 convolution; ours, 1 x 1, is its centre. Raises ExportError for an encoder alone, and
    for one that smp has no U-Net for.
    """
    if parts.decoder is None:
        raise ExportError("this model is an encoder without a decoder; export it with --to timm")
    smp = library("segmentation_models_pytorch")
    arguments = {
        "encoder_name": f"tu-{parts.encoder_name}", "encoder_weights": None, "encoder_depth": len(parts.decoder_widths),
        "decoder_channels": parts.decoder_widths, "in_channels": parts.in_channels, "classes": parts.classes,
    }  # fmt: skip
    try:
        network = smp.Unet(**arguments).eval()
    except Exception as error:  # whatever timm and smp raise for a pyramid that they do not know
        raise ExportError(f"smp.Unet cannot be built over {parts.encoder_name}: {error}") from error
    tensors = {f"encoder.model.{key}": value for key, value in parts.encoder.state_dict().items()}
    tensors |= {f"decoder.{key}": value for key, value in decoder_tensors(parts.decoder).items()}
    tensors |= head_tensors(parts)
    write_tensors(path, tensors)
    missing, unexpected = network.load_state_dict(load_file(path), strict=False)
    lacking = [key for key in missing if parts.classifier is not None or not key.startswith("segmentation_head.")]
    if lacking or unexpected:
        raise ExportError(
            f"smp.Unet over {parts.encoder_name} has other tensors: {', '.join((lacking + unexpected)[:3])}"
        )
    x = parts.input_of(images_hu)
    theirs = network(x) if parts.classifier is not None else network.decoder(network.encoder(x))
    what = "class scores" if parts.classifier is not None else "pixel features"
    difference = difference_of([theirs], [parts.model.network(x)], "smp.Unet")
    words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    strict = "" if parts.classifier is not None else ", strict=False"
    usage = (
        "import segmentation_models_pytorch as smp, safetensors.torch",
        f"model = smp.Unet({words})",
        f'model.load_state_dict(safetensors.torch.load_file("{path.name}"){strict})',
    )
    left_out = () if parts.classifier is not None else ("the segmentation head, which pre-training does not have",)
    return Certificate(path, "segmentation-models-pytorch", what, difference, usage, left_out)


def decoder_tensors(decoder: Decoder) -> dict[str, Tensor]:
    """The decoder under smp's names."""
    renamed = {}
    for key, value in decoder.state_dict().items():
        blocks, number, layer, name = key.split(".")
        renamed[f"{blocks}.{number}.{LAYERS[layer]}.{name}"] = value
    return renamed


def head_tensors(parts: Parts) -> dict[str, Tensor]:
    """The classifier, a 1 x 1 convolution [L, C, 1, 1], as the centre of a 3 x 3 one, for smp and MONAI."""
    if parts.classifier is None:
        return {}
    assert parts.classifier.bias is not None
    centred = torch.nn.functional.pad(parts.classifier.weight, (1, 1, 1, 1))
    return {"segmentation_head.0.weight": centred, "segmentation_head.0.bias": parts.classifier.bias}
