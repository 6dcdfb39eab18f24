"""Every random draw gets a seed that is derived from the run's seed and the name of its purpose.

A random draw of training is a function of (seed, purpose, step, worker) and of nothing that came before, so a resumed
run draws exactly what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit number for one purpose of one seed.

    >>> derive(0, "views", 1) == derive(0, "views", 1), derive(0, "views", 1) == derive(0, "views", 2)
    (True, False)
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def seeded(build: Callable[[], T], seed: int) -> T:
    """Call `build()` with torch's global generator seeded, and restored afterwards: initial weights follow the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
