"""The teacher as a moving average of the student: Eq. (2)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pixelglobal.config.schema import Pretrain


@torch.no_grad()
def move_teacher(teacher: nn.Module, student: nn.Module, settings: Pretrain, step: int, total_steps: int) -> None:
    """Eq. (2): the teacher follows the student, parameters only."""
    keep = ema_keep(step, base=settings.ema_base, final=settings.ema_final, total_steps=total_steps)
    if settings.ema_convention == "literal_eq2":
        keep = 1 - keep
    follow(teacher.parameters(), student.parameters(), keep)


def ema_keep(step: int, *, base: float, final: float, total_steps: int) -> float:
    """How much of itself the teacher keeps at a step: a cosine from `base` to `final` (BYOL, Eq. (2)'s schedule).

    >>> ema_keep(0, base=0.996, final=1.0, total_steps=100)
    0.996
    """
    return final - (final - base) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))


@torch.no_grad()
def follow(teacher: Iterable[Tensor], student: Iterable[Tensor], keep: float) -> None:
    """Eq. (2), read as BYOL has it: teacher <- keep * teacher + (1 - keep) * student, in place, parameters only.

    The paper prints the two weights the other way round, which makes the teacher a copy of the student.
    """
    torch._foreach_lerp_(list(teacher), [p.detach() for p in student], 1 - keep)
