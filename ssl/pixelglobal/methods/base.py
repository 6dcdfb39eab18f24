"""The interface of methods: what the pre-training loop asks of one. See docs/how-to/add-a-method.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pixelglobal.config.schema import Config, Views
from pixelglobal.config.section import Section
from pixelglobal.methods.collapse import HeadMeasures, encoder_measures
from pixelglobal.networks.batch_norm import frozen_batch_norm_buffers
from pixelglobal.views.pairs import ViewPair, ViewPlan

ENCODER = "student.encoder"  # among what a method exports


@dataclass(frozen=True)
class Variant:
    """One way to use a method, as studies compare it: its label and colour in tables and figures, and the values of
    the method's section that make it."""

    label: str
    color: str  # "#rrggbb"
    settings: Mapping[str, Any] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A way of pre-training: made of the config, it has a student, perhaps a teacher, and losses.

    A method says all that it needs as a function of the stage, and keeps what it learns in parameters and buffers, so
    that a resumed run equals an uninterrupted one.
    """

    name: ClassVar[str]  # of the method and of its section of settings
    Settings: ClassVar[type[Section]] = Section  # that section; it says its own values of the presets
    variants: ClassVar[Mapping[str, Variant]] = {}  # by their names in tables
    citation: ClassVar[str] = ""

    student: nn.Module
    teacher: nn.Module | None
    fewest_patients = 1  # that the slices must come from
    stages = 1  # equal parts of a run with different work; each goes through the learning-rate schedule once

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.teacher = None
        self._student_of_all_workers: Callable[..., Any] | None = None
        self._sum_over_workers: Callable[[Tensor], object] | None = None

    @property
    def views(self) -> Views:
        """How views are drawn: `views.*`, without mirrors if `pretrain.flips` is off."""
        never = {"flip_horizontal_probability": 0.0, "flip_vertical_probability": 0.0}
        return self.config.views if self.config.pretrain.flips else self.config.views.model_copy(update=never)

    @classmethod
    def slices_of_a_scan(cls, _config: Config, /) -> int:
        """How many slices of each of its scans a batch holds: one of each of so many equal parts along z. 1: slices are
        drawn alone."""
        return 1

    def view_plan(self, stage: int) -> ViewPlan:
        """How the views of a stage are drawn."""
        return ViewPlan(self.views)

    @abstractmethod
    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars of a batch: "loss" carries the gradient, the others are for the log."""

    def before_backward(self, terms: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """What needs the graph of the losses, such as norms of their gradients: more named scalars for the log.

        Called in every step with what `losses` gave. It must keep the graph.
        """
        return {}

    def measures(self, pair: ViewPair, generator: torch.Generator) -> dict[str, HeadMeasures]:
        """What tells whether each head, by default the encoder, still says something. Changes nothing, draws from a
        generator of its own."""
        encoder = self.exported()[ENCODER]
        with torch.no_grad(), frozen_batch_norm_buffers(encoder):
            return {"encoder": encoder_measures(encoder(pair.view_1)[-1].mean((2, 3)))}

    def advice(self, head: str) -> list[str]:
        """What to try when a head has collapsed, the most promising first."""
        return ["lower pretrain.learning_rate"]

    def after_step(self, step: int, total_steps: int) -> None:
        """What follows the optimiser's step, such as moving the teacher."""

    @abstractmethod
    def exported(self) -> dict[str, nn.Module]:
        """What is kept for users, by name. Fine-tuning takes the names that begin with student. (or teacher.) encoder
        or decoder, and reads the rest as the path inside `networks.unet.ResUNet`."""

    def facts(self) -> dict[str, Any]:
        """JSON values to keep beside the weights."""
        return {}

    def trainable(self) -> nn.Module:
        """What the optimiser sees."""
        return self.student

    def distribute(
        self, sum_over_workers: Callable[[Tensor], object], *, synchronize_batch_norms: bool = False
    ) -> None:
        """Train as one of several workers: the student's gradients are averaged over all of them.

        sum_over_workers: replaces a tensor by its sum over the workers, in place; each worker must call it.
        synchronize_batch_norms: statistics of batch norms are those of all workers' slices, which takes CUDA.
        """
        if synchronize_batch_norms:
            convert_sync_batchnorm(self)  # type: ignore[no-untyped-call]
        # A stage, a variant or a batch may leave a part of the student without gradients.
        wrapped = DistributedDataParallel(self.student, find_unused_parameters=True, broadcast_buffers=False)
        self._student_of_all_workers = wrapped.__call__  # not the module itself: its weights are saved once
        self._sum_over_workers = sum_over_workers

    def run_student(self, *inputs: Any) -> Any:
        """The student's forward pass. Once a step: its gradients are averaged over the workers."""
        return (self._student_of_all_workers or self.student)(*inputs)

    def summed_over_workers(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all workers, which must all ask for it; on one worker the tensor itself."""
        if self._sum_over_workers is not None:
            self._sum_over_workers(values)
        return values

    def gathered_over_workers(self, values: Tensor) -> Tensor:
        """The rows [N, ...] of all workers, which must all ask for equally many; on one worker the tensor itself."""
        if self._sum_over_workers is None:
            return values
        rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
        rows = values.new_zeros(workers, *values.shape)
        rows[rank] = values
        return self.summed_over_workers(rows).flatten(0, 1)
