"""Sending tensors to a device without waiting for it: a step must never stop for what the GPU still has to do."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a CUDA device gets it through page-locked memory, behind the work already queued."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
