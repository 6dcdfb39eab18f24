"""What an export is made of, and what is known of it afterwards.

Shape letters: B images, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.evaluation.loaded_model import LoadedModel
from pixelglobal.files import write_file
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import Decoder
from pixelglobal.views.intensity import normalize, with_channels

TOLERANCE = 1e-5  # greatest difference of a feature or a logit, in units of the greatest magnitude, at least 1


class ExportError(ValueError):
    """A network that the other library cannot hold, or whose outputs differ there; nothing is kept."""


@dataclass(frozen=True)
class Certificate:
    """An export that the other library has loaded and that gave our outputs there.

    compared: what was compared; difference: the greatest, relative to the greatest magnitude (at least 1).
    usage: lines of Python that load the file; left_out: what of the network the file does not hold.
    """

    path: Path
    library: str
    compared: str
    difference: float
    usage: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    further_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Parts:
    """A trained network in pieces; an encoder alone has no decoder, and a pre-training has no classifier."""

    model: LoadedModel
    encoder: nn.Module
    decoder: Decoder | None
    classifier: nn.Conv2d | None

    @property
    def encoder_name(self) -> str:
        """As timm calls it."""
        return str(self.model.facts["network"]["encoder"])

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels after each doubling of the resolution."""
        return tuple(self.model.facts["network"]["decoder_widths"])

    @property
    def in_channels(self) -> int:
        """Channels of an image: 1 of a CT."""
        return int(self.model.facts["network"].get("in_channels", 1))

    @property
    def is_ct(self) -> bool:
        """Whether it takes HU; otherwise the intensities of pictures."""
        facts = self.model.facts
        return "grid" not in facts or StoredGrid.of(facts["grid"]).is_ct

    @property
    def classes(self) -> int:
        """Background and structures; 1 if there is no classifier."""
        return 1 if self.classifier is None else self.classifier.out_channels

    def input_of(self, images_hu: Tensor) -> Tensor:
        """What the network itself takes of slices [B, H, W] in HU: [B, channels, H, W], clipped and normalised."""
        scale = self.model.scale
        return normalize(with_channels(images_hu).clamp(scale.hu_min, scale.hu_max), scale)


def parts_of(model: LoadedModel) -> Parts:
    """The pieces of a loaded model."""
    network: Any = model.network
    if isinstance(network, Segmenter):
        return Parts(model, network.backbone.encoder, network.backbone.decoder, network.classifier)
    if hasattr(network, "decoder"):
        return Parts(model, network.encoder, network.decoder, None)
    return Parts(model, network, None, None)


def library(name: str, remedy: str = "run: pip install 'pixelglobal[export]'") -> Any:
    """A library that exports need. Raises ExportError that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(f"{name} is not installed ({error}); {remedy}") from None


@torch.no_grad()
def difference_of(theirs: Sequence[Tensor], ours: Sequence[Tensor], what: str) -> float:
    """The greatest difference of outputs, relative to their greatest magnitude (at least 1).

    Raises ExportError if it is above TOLERANCE or if shapes differ.
    """
    shapes = [tuple(t.shape) for t in theirs], [tuple(t.shape) for t in ours]
    if shapes[0] != shapes[1]:
        raise ExportError(f"{what} has outputs of the shapes {shapes[0]}, and ours are {shapes[1]}; nothing was kept")
    magnitude = max(1.0, *(float(t.abs().max()) for t in ours))
    greatest = max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True)) / magnitude
    if not greatest <= TOLERANCE:
        raise ExportError(
            f"{what} gives outputs that differ from ours by {greatest:.1e} of their magnitude; expected at most "
            f"{TOLERANCE:.0e}. Nothing was kept"
        )
    return greatest


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> Path:
    """Write a state dict as safetensors, whole or not at all."""
    copies = {name: tensor.detach().contiguous().cpu().clone() for name, tensor in tensors.items()}
    return write_file(path, lambda scratch: save_file(copies, scratch))
