"""The encoder for timm, under timm's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from pixelglobal.exports.certificate import Certificate, Parts, difference_of, write_tensors


@torch.no_grad()
def export(parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    """Write the encoder, and compare its feature maps in timm's network with ours.

    Where timm's whole network has no layer beyond the feature pyramid, the file loads into it strictly; otherwise into
    its `features_only` form.
    """
    name, x = parts.encoder_name, parts.input_of(images_hu)
    plain: Any = timm.create_model(name, in_chans=parts.in_channels, num_classes=0).eval()
    wanted, state = plain.state_dict().keys(), parts.encoder.state_dict()
    # The pyramid calls "stages.0" "stages_0".
    renamed = {key if key in wanted else key.replace("_", ".", 1): value for key, value in state.items()}
    left_out = [*_all_but_the_encoder(parts)]
    if renamed.keys() == wanted:
        write_tensors(path, renamed)
        plain.load_state_dict(load_file(path))
        difference = difference_of([plain.forward_features(x)], [parts.encoder(x)[-1]], f"timm's {name}")
        usage = ("import timm", f'model = timm.create_model("{name}", in_chans={parts.in_channels}, num_classes=0,',
                 f'                          checkpoint_path="{path.name}")')  # fmt: skip
        return Certificate(path, "timm", "the encoder's last feature map", difference, usage, tuple(left_out))
    write_tensors(path, state)
    pyramid: Any = timm.create_model(name, in_chans=parts.in_channels, features_only=True).eval()
    pyramid.load_state_dict(load_file(path))
    difference = difference_of(pyramid(x), parts.encoder(x), f"timm's {name} with features_only")
    usage = (
        "import timm, safetensors.torch",
        f'model = timm.create_model("{name}", in_chans={parts.in_channels}, features_only=True)',
        f'model.load_state_dict(safetensors.torch.load_file("{path.name}"))',
    )
    left_out.append(f"layers of timm's {name} behind the feature pyramid, which were never trained")
    return Certificate(path, "timm", "all feature maps of the encoder", difference, usage, tuple(left_out))


def _all_but_the_encoder(parts: Parts) -> list[str]:
    return [name for name, part in (("decoder", parts.decoder), ("classifier", parts.classifier)) if part is not None]
