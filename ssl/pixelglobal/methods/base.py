"""The door for methods: what the pre-training loop asks of one. See docs/how-to/add-a-method.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pixelglobal.config.schema import Config, Views
from pixelglobal.methods.collapse import HeadMeasures
from pixelglobal.views.pairs import ViewPair, ViewPlan


class Method(nn.Module, ABC):
    """A way of pre-training: made of the config, it has a student, perhaps a teacher, and losses.

    A method says all that it needs as a function of the stage, and keeps what it learns in parameters and buffers, so
    that a resumed run equals an uninterrupted one.
    """

    student: nn.Module
    teacher: nn.Module | None
    stages = 1  # equal parts of a run with different work; each goes through the learning-rate schedule once
    citation = ""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.teacher = None

    @property
    def views(self) -> Views:
        """How views are drawn: `views.*`, without mirrors if `pretrain.flips` is off."""
        never = {"flip_horizontal_probability": 0.0, "flip_vertical_probability": 0.0}
        return self.config.views if self.config.pretrain.flips else self.config.views.model_copy(update=never)

    def view_plan(self, stage: int) -> ViewPlan:
        """How the views of a stage are drawn."""
        return ViewPlan(self.views)

    @abstractmethod
    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars of a batch: "loss" carries the gradient, the others are for the log."""

    def measures(self, pair: ViewPair, generator: torch.Generator) -> dict[str, HeadMeasures]:
        """What tells whether each head still says something; none by default. Changes nothing, draws from a generator
        of its own."""
        return {}

    def after_step(self, step: int, total_steps: int) -> None:
        """What follows the optimiser's step, such as moving the teacher."""

    @abstractmethod
    def exported(self) -> dict[str, nn.Module]:
        """What is kept for users, by name. Fine-tuning takes the names that begin with student. (or teacher.) encoder
        or decoder, and reads the rest as the path inside `networks.ResUNet`."""

    def facts(self) -> dict[str, Any]:
        """JSON values to keep beside the weights."""
        return {}

    def trainable(self) -> nn.Module:
        """What the optimiser sees."""
        return self.student

    def distribute(self) -> None:
        """Average the student's gradients over the workers of torch.distributed."""
        # A stage, a variant or a batch may leave a part of the student without gradients.
        wrapped = DistributedDataParallel(self.student, find_unused_parameters=True, broadcast_buffers=False)
        self.__dict__["_distributed"] = wrapped  # not a submodule: its weights are saved once

    def run_student(self, *inputs: Any) -> Any:
        """The student's forward pass. Once a step: its gradients are averaged over the workers."""
        return self.__dict__.get("_distributed", self.student)(*inputs)
