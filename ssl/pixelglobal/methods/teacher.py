"""The teacher as a moving average of the student: Eq. (2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.section import Section


class TeacherSettings(Section):
    """How slowly a teacher follows its student: settings of every method that has one."""

    ema_convention: Literal["teacher_decay", "literal_eq2"] = "teacher_decay"  # Eq. (2) as printed is the reverse
    ema_base: float = Field(0.996, ge=0, le=1)  # paper: "cosine schedule from 0.996 to 1"
    ema_final: float = Field(1.0, ge=0, le=1)


@torch.no_grad()
def move_teacher(
    teacher: nn.Module, student: nn.Module, settings: TeacherSettings, step: int, total_steps: int
) -> None:
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
