"""Weights of an encoder from a local file, such as timm's ImageNet weights. Nothing is ever downloaded."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def load_encoder_weights(encoder: nn.Module, name: str, file: Path) -> str:
    """Put the weights of a safetensors file into a timm encoder with one input channel; returns what was done.

    name: the encoder's timm name, for messages. The first convolution of a network for colour images is summed over its
    three channels, as timm does: a grey image then has the same outputs as one with three equal channels. Classifiers
    and other tensors of the file are left out. Raises ValueError if the file is missing or damaged, or if a parameter
    of the encoder is not in it with the same shape.
    """
    if not file.is_file():
        raise ValueError(f"network.weights={str(file)!r} is no file; give a .safetensors file of {name!r}")
    try:
        # Encoders with a feature pyramid write stages_0 where the file has stages.0.
        saved = {key.replace(".", "_"): value for key, value in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(
            f"cannot read network.weights={str(file)!r} ({error}); expected a file in safetensors format"
        ) from None
    state, found = encoder.state_dict(), {}
    for key, now in state.items():
        value = saved.get(key.replace(".", "_"))
        if value is not None and (value := _in_one_channel(value, now)).shape == now.shape:
            found[key] = value
    # A counter of batches that only matters without a momentum; older files do not have it.
    missing = [key for key in state if key not in found and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"network.weights={str(file)!r} does not fit network.encoder={name!r}: {len(missing)} of its {len(state)} "
            f"tensors are not in the file with the same shape, first {', '.join(missing[:3])}; give the weights of "
            "this timm model"
        )
    encoder.load_state_dict(found, strict=False)
    return f"{len(found)} of {len(state)} tensors of the encoder from {file.name}"


def _in_one_channel(saved: Shaped[Tensor, "*saved"], now: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*result"]:
    """A first convolution [C, 3, h, w] as [C, 1, h, w] where the network has one input channel."""
    of_colour = saved.ndim == now.ndim == 4 and saved.shape[1] == 3 and now.shape[1] == 1
    return saved.sum(1, keepdim=True) if of_colour else saved
