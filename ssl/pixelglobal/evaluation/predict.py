"""Labels that a fine-tuned model gives to stored scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.devices import place
from pixelglobal.networks.segmenter import Segmenter, predict_labels
from pixelglobal.networks.unet import ResUNet
from pixelglobal.training.checkpoints import read_model
from pixelglobal.views.intensity import HuScale


def load_segmenter(folder: Path, device: torch.device) -> tuple[Segmenter, HuScale, dict[str, Any]]:
    """A fine-tuned model with its intensity scale and facts, ready for `predict_labels`.

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


def predict_case(
    model: nn.Module, scale: HuScale, store: Store, case: str, config: Config, device: torch.device
) -> np.ndarray:
    """The label volume uint8 [Z, rows, columns] of a stored case on the grid of its original scan."""
    batch = store.read_case(case)
    return store.paste_back(case, predict_labels(model, batch.image_hu, scale, config, device).numpy())
