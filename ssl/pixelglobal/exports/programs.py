"""TorchScript and ONNX: whole programs that take HU and need neither this library nor timm."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from pixelglobal.evaluation.loaded_model import LoadedModel
from pixelglobal.exports.certificate import Certificate, Parts, difference_of, library
from pixelglobal.files import write_file
from pixelglobal.views.intensity import with_channels


class _Program(nn.Module):
    """Slices [B, 1, H, W] in HU to class scores, or to pixel features; plain layers that a compiler can follow."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.network, scale = parts.model.network, parts.model.scale
        self.hu_min, self.hu_max, self.mean_hu, self.std_hu = scale.hu_min, scale.hu_max, scale.mean_hu, scale.std_hu
        self.of_slice = scale.scope == "slice"

    def forward(self, image_hu: Tensor) -> Any:
        hu = image_hu.clamp(self.hu_min, self.hu_max)
        if self.of_slice:
            std = hu.std((1, 2, 3), keepdim=True).clamp_min(1.0)
            return self.network((hu - hu.mean((1, 2, 3), keepdim=True)) / std)
        return self.network((hu - self.mean_hu) / self.std_hu)


def outputs_of(parts: Parts) -> tuple[str, ...]:
    """What a program returns, by name."""
    if parts.classifier is not None:
        return ("scores",)
    return ("features",) if parts.decoder is not None else ("map",)


def input_words(parts: Parts) -> str:
    """What a program takes, for the comment behind its use."""
    return f"float32 [B, {parts.in_channels}, H, W] {'in HU' if parts.is_ct else 'from 0 to 32767'}"


@torch.no_grad()
def export_torchscript(parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    """Write a traced program, and compare its outputs with ours, for this size and another."""
    program, image = _Program(_with_one_output(parts)).eval(), with_channels(images_hu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants in a trace, which the other size proves harmless
        traced: Any = torch.jit.trace(program, image, check_trace=False)
        write_file(path, lambda scratch: torch.jit.save(traced, str(scratch)))
        loaded: Any = torch.jit.load(str(path))
    sizes = [image, _of_another_size(image)]
    difference = max(difference_of([loaded(x)], [program(x)], "the TorchScript program") for x in sizes)
    usage = (
        "import torch",
        f'model = torch.jit.load("{path.name}")',
        f"{outputs_of(parts)[0]} = model(image_hu)  # {input_words(parts)}, H and W multiples of 32",
    )
    return Certificate(path, "torch.jit", f"{outputs_of(parts)[0]} for two sizes", difference, usage)


@torch.no_grad()
def export_onnx(parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    """Write an ONNX program of any size, and compare its outputs in onnxruntime with ours, for two sizes."""
    library("onnx"), library("onnxscript")
    runtime = library("onnxruntime")
    program, image = _Program(_with_one_output(parts)).eval(), with_channels(images_hu)
    rows, columns = (32 * Dim(name, min=1, max=256) for name in ("rows_32", "columns_32"))  # the encoder's stride
    shapes = {"image_hu": {0: Dim("batch", min=1, max=4096), 2: rows, 3: columns}}

    def write(scratch: Path) -> None:
        torch.onnx.export(
            program, (torch.cat([image, image]),), str(scratch), input_names=["image_hu"],
            output_names=[*outputs_of(parts)], dynamic_shapes=shapes, external_data=False, verbose=False,
        )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_file(path, write)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences = []
    for x in (image, _of_another_size(image)):
        theirs = session.run(None, {"image_hu": x.numpy()})[0]
        differences.append(difference_of([torch.from_numpy(theirs)], [program(x)], "onnxruntime"))
    usage = (
        "import onnxruntime",
        f'session = onnxruntime.InferenceSession("{path.name}")',
        f'[{outputs_of(parts)[0]}] = session.run(None, {{"image_hu": image_hu}})  # {input_words(parts)}',
    )
    return Certificate(path, "onnxruntime", f"{outputs_of(parts)[0]} for two sizes", max(differences), usage)


def _with_one_output(parts: Parts) -> Parts:
    if parts.decoder is not None:
        return parts
    last = LoadedModel(_LastMap(parts.encoder), parts.model.scale, parts.model.facts)
    return Parts(last, parts.encoder, None, None)


class _LastMap(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Any:
        return self.encoder(x)[-1]


def _of_another_size(image: Tensor) -> Tensor:
    """The image with 32 more rows and 64 more columns, mirrored at the edges."""
    if min(image.shape[2:]) < 65:
        return image.repeat(1, 1, 2, 3)
    return nn.functional.pad(image, (0, 64, 0, 32), mode="reflect")
