"""The segmenter that fine-tuning starts from: random weights, or those of a pre-training with their intensity scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pixelglobal.config.schema import Config
from pixelglobal.data.pool import Scans
from pixelglobal.data.store import Store
from pixelglobal.devices import place
from pixelglobal.networks.encoder_weights import load_encoder_weights
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import ResUNet
from pixelglobal.seeds import derive, seeded
from pixelglobal.training.checkpoints import read_model, transfer
from pixelglobal.training.pretrain import hu_scale, refuse_other_channels
from pixelglobal.views.intensity import HuScale


@dataclass(frozen=True)
class InitialSegmenter:
    """A segmenter on its device, and where its weights come from."""

    model: Segmenter
    scale: HuScale  # the intensity scale that the weights were trained with
    transferred: tuple[nn.Module, ...]  # the parts of the model that a pre-training has trained
    report: str  # how many tensors were transferred
    cases_seen: dict[str, str]  # SHA-256 of the voxels of every scan that the weights have seen


def initial_segmenter(
    config: Config,
    store: Store,
    pretrained: Path | None,
    device: torch.device,
    frequency_L: Tensor,
    normalized_by: Scans | None = None,
) -> InitialSegmenter:
    """A segmenter with the weights of a pre-trained model folder, or (None) with random ones, or those of a file.

    Both see the same intensities: random weights get the scale that a pre-training on `normalized_by` would have, or
    on this store if it is None.
    frequency_L: how often each label is found in the labelled slices, float64 [L], for the classifier's bias.
    Raises ValueError if the folder holds another kind of model, weights of another network, or weights that were
    trained on another range of HU than the store has.
    """
    refuse_other_channels(config, store)
    model = seeded(
        lambda: Segmenter(ResUNet(config.network), len(store.structures) + 1), derive(config.seed, "segmenter weights")
    )
    if config.finetune.classifier_bias == "log_frequencies":
        model.expect_frequencies(frequency_L)
    if pretrained is None:
        report, weights = "random initialisation", config.network.weights
        loaded: tuple[nn.Module, ...] = ()
        if weights is not None:
            report = load_encoder_weights(model.backbone.encoder, config.network.encoder, Path(weights))
            loaded = (model.backbone.encoder,)
        place(model, device)
        return InitialSegmenter(model, hu_scale(config, normalized_by or store), loaded, report, {})
    saved = read_model(pretrained)[1]
    if saved.get("kind") != "pretrained":
        raise ValueError(f"{pretrained} holds a {saved.get('kind')!r} model; fine-tuning starts from a pretrained one")
    scale = HuScale(**saved["scale"])
    if (scale.hu_min, scale.hu_max) != (store.hu_min, store.hu_max):
        raise ValueError(
            f"{pretrained} was trained on HU clipped to [{scale.hu_min}, {scale.hu_max}], but {store.root} is clipped "
            f"to [{store.hu_min}, {store.hu_max}]; prepare the cohort again with the range of the weights"
        )
    if (channels := saved["network"].get("in_channels", 1)) != store.channels:
        raise ValueError(
            f"{pretrained} was trained on slices of {channels} channels, but {store.root} has {store.channels}; "
            "pre-train on pictures with as many channels"
        )
    trained = saved.get("parts", ["decoder", "encoder"])  # what the method has trained of the encoder-decoder
    wanted = ("encoder", "decoder") if config.finetune.transfer == "encoder_decoder" else ("encoder",)
    parts = {part: model.backbone.get_submodule(part) for part in trained if part.split(".")[0] in wanted}
    report = str(transfer(pretrained, config.finetune.transfer_from, parts))
    place(model, device)
    return InitialSegmenter(model, scale, tuple(parts.values()), report, dict(saved["cases_seen"]))
