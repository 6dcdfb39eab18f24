"""Fine-tuned models from their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pixelglobal.config.schema import Config
from pixelglobal.devices import place
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import ResUNet
from pixelglobal.training.checkpoints import read_model
from pixelglobal.views.intensity import HuScale


def load_segmenter(folder: Path, device: torch.device) -> tuple[Segmenter, HuScale, dict[str, Any]]:
    """A fine-tuned model with its intensity scale and facts, on its device.

    Raises ValueError if the folder holds no model, or one that was only pre-trained.
    """
    tensors, facts = read_model(folder)
    if facts.get("kind") != "segmenter":
        raise ValueError(
            f"{folder} holds a {facts.get('kind')!r} model; segmentation needs the model folder of a fine-tuning"
        )
    config = Config.model_validate({"network": facts["network"]})
    model = Segmenter(ResUNet(config.network), len(facts["structures"]) + 1)
    model.load_state_dict({key.removeprefix("segmenter."): value for key, value in tensors.items()})
    place(model, device)
    return model, HuScale(**facts["scale"]), facts
