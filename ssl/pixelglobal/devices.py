"""Sending tensors to a device without waiting for it: a step must never stop for what the GPU still has to do."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a CUDA device gets it through page-locked memory, behind the work already queued."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on the device; nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST_DTYPE[precision])


def place(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device in the memory layout its convolutions run fastest in."""
    placed: nn.Module = module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def default_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads of torch, if one is asked for."""
    if threads:
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
