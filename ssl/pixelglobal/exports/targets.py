"""The libraries that a trained network can be exported for, and what is written beside each export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pixelglobal.data.phantom import make_phantom
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.evaluation.loaded_model import LoadedModel, load_model
from pixelglobal.evaluation.predict_scans import scans_in
from pixelglobal.exports.card import write_card
from pixelglobal.exports.certificate import Certificate, Parts, parts_of, write_tensors
from pixelglobal.training.checkpoints import model_folder

Target = Literal["timm", "smp", "monai", "nnunet", "torchscript", "onnx"]

_EXPORTERS = {
    "timm": "timm_encoder:export",
    "smp": "smp_unet:export",
    "monai": "monai_networks:export",
    "nnunet": "nnunet:export",
    "torchscript": "programs:export_torchscript",
    "onnx": "programs:export_onnx",
}
ENDINGS = {"nnunet": ".pth", "torchscript": ".pt", "onnx": ".onnx"}  # .safetensors elsewhere


def export(
    run: Path, to: Target, out: Path, *, scan: Path | None = None, rows: Path | None = None, licence: str | None = None
) -> Certificate:
    """Write a trained network for another library, after that library has given the same outputs for a slice.

    scan: whose middle slice is compared; without it, a slice of a synthetic patient. rows: of an evaluation, for the
    metrics in the model card. licence: of the weights, as the card states it.
    Beside `out` are `NAME.md`, the model card, and `NAME.safetensors`, all weights under our own names, if `out` is in
    another form. Raises ValueError for a folder without a model, a network that the library cannot hold, and a library
    that is not installed.
    """
    if to not in get_args(Target):
        raise ValueError(f"--to {to}: expected one of {', '.join(get_args(Target))}")
    ending = ENDINGS.get(to, ".safetensors")
    if out.suffix != ending:
        raise ValueError(f"{out}: an export to {to} is a {ending} file; give --out {out.with_suffix(ending)}")
    model = load_model(run)
    images_hu = _slice_of(model, scan)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".partial-") as scratch:  # what fails the check is never in place
        made = Path(scratch) / out.name
        certificate = exporter(to)(parts_of(model), images_hu, made)
        if ending != ".safetensors":
            write_tensors(made.with_suffix(".safetensors"), dict(model.network.state_dict()))
        write_card(made.with_suffix(".md"), model_folder(run), model.facts, certificate, rows, licence)
        files = [file.replace(out.parent / file.name) for file in sorted(made.parent.iterdir())]
    return replace(certificate, path=out, further_files=tuple(file for file in files if file != out))


def exporter(to: str) -> Callable[[Parts, Tensor, Path], Certificate]:
    """The function that writes one target."""
    module, _, name = _EXPORTERS[to].partition(":")
    function: Callable[[Parts, Tensor, Path], Certificate] = getattr(
        import_module(f"pixelglobal.exports.{module}"), name
    )
    return function


def _slice_of(model: LoadedModel, scan: Path | None) -> Tensor:
    """One slice [1, S, S] in HU on the grid of the model."""
    grid = StoredGrid.of(model.facts["grid"]) if "grid" in model.facts else None
    channels = model.facts["network"].get("in_channels", 1)
    if scan is not None:
        cohort = scans_in(scan)
        volume = cohort.load(cohort.cases[0], cohort.code, None)
        image_hu, spacing_mm = volume.image_hu, volume.spacing_mm
        if (theirs := image_hu[0].size // (image_hu.shape[-1] * image_hu.shape[-2])) != channels:
            raise ValueError(f"{scan} has {theirs} channels, and the model takes {channels}; give another --scan")
    elif grid and not grid.is_ct:
        shape = (1, channels, grid.image_size, grid.image_size) if channels > 1 else (1, *2 * (grid.image_size,))
        image_hu = np.random.default_rng(0).integers(0, round(grid.hu_max), shape, np.int16)
        spacing_mm = (1.0, 1.0, 1.0)
    else:
        image_hu, _, spacing_mm = make_phantom(
            np.random.default_rng(0), size=grid.image_size if grid else 96, n_slices=5
        )
    middle = image_hu[len(image_hu) // 2][None]
    return torch.from_numpy(grid.slices_of(middle, spacing_mm) if grid else middle)
