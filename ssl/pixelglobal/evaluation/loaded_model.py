"""A trained model as a PyTorch module that takes slices in HU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelglobal.config.schema import Network
from pixelglobal.evaluation.load_segmenter import load_segmenter
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import ResUNet
from pixelglobal.training.checkpoints import read_model, transfer
from pixelglobal.views.intensity import HuScale, normalize, with_channels


class LoadedModel(nn.Module):
    """A trained network behind its normalisation.

    network: a `Segmenter`, or the pre-trained encoder-decoder; the encoder alone if the method trains no decoder.
    scale: how HU become the inputs of the network.
    facts: what model.json holds, such as `kind`, `structures`, `citation` and `cases_seen`.
    """

    def __init__(self, network: nn.Module, scale: HuScale, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network, self.scale, self.facts = network, scale, facts

    @property
    def encoder(self) -> nn.Module:
        """The encoder alone, which takes normalised slices [B, channels, H, W]."""
        network: Any = self.network.backbone if isinstance(self.network, Segmenter) else self.network
        encoder: nn.Module = network.encoder if isinstance(network, ResUNet) else network
        return encoder

    def forward(self, images_hu: Tensor) -> Any:
        """What the network makes of slices [B, H, W] in HU, whose sides are multiples of 32.

        Of pictures they are intensities from 0 to 32767, [B, H, W] or, in colour, [B, 3, H, W].

        A segmenter gives class scores [B, L, H, W], class 0 being background; an encoder-decoder gives pixel
        features [B, C, H, W]; an encoder gives its list of feature maps, from fine to coarse.
        """
        clipped = with_channels(images_hu).clamp(self.scale.hu_min, self.scale.hu_max)
        return self.network(normalize(clipped, self.scale))


def load_model(folder: Path) -> LoadedModel:
    """The model of a pre-training (its student) or of a fine-tuning, on the CPU and in evaluation mode.

    Raises ValueError if the folder holds no model.
    """
    facts = read_model(folder)[1]
    if facts["kind"] == "segmenter":
        segmenter, scale, facts = load_segmenter(folder, torch.device("cpu"))
        return LoadedModel(segmenter, scale, facts).eval()
    backbone = ResUNet(Network.model_validate(facts["network"]))
    transfer(folder, "student", {part: getattr(backbone, part) for part in facts["parts"]})
    network = backbone if "decoder" in facts["parts"] else backbone.encoder
    return LoadedModel(network, HuScale(**facts["scale"]), facts).eval()
