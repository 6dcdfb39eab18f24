"""The method of the paper: global agreement, pixel agreement, context stabiliser, uncertainty weighting.

GO, GP, GPC and full are values of its settings (`PixelGlobal.variants`), not classes. One step:

    view 1 -> student -> z' (global logits), y' (logits of matched pixels)
    view 2 -> teacher -> the same, without gradient; then its pixels again, mc_passes times under dropout
    loss = Eq. (3) + one of Eqs. (4), (5), (6), each with its weight

Dropout passes repeat only what lies after the first place that drops: with the default site they cost a few small
matrix products on the matched pixels, not a pass of the network.

Shape letters: B images, S side of a square image, M matched pixel pairs, K outputs of a head.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.losses.consistency import disagreement, global_loss, local_loss, mean_one, targets
from pixelglobal.methods.ablation import ABLATION, MATCHED_ABLATION
from pixelglobal.methods.base import Method
from pixelglobal.methods.collapse import HeadMeasures, RecentCodes, head_measures, match_rank
from pixelglobal.methods.gradient_norms import gradient_norms, matched_weight
from pixelglobal.methods.teacher import TeacherSettings, move_teacher
from pixelglobal.networks.batch_norm import frozen_batch_norm_buffers
from pixelglobal.networks.branch import (
    Branch,
    ChannelDropout,
    DropoutPasses,
    HeadSize,
    MatchedPixels,
    teacher_uncertainty,
)
from pixelglobal.networks.uncertainty import entropy
from pixelglobal.views.pairs import ViewPair, ViewPlan

MEASURED_PIXELS = 1024  # of a batch, for the measures of collapse


class PixelGlobalSettings(TeacherSettings):
    """The paper's method. The global loss of Eq. (3) is always there; the first three are the paper's ablation."""

    without_effect = frozenset({"checkpoint_pixel_head"})
    presets = {
        # Eqs. (5) and (6) as printed.
        "paper_literal": {"stabilizer": "abs_pixel", "detach_partner": False, "pixel_reduction": "sum"},
        "small": {"mc_passes": 8, "global_outputs": 256, "pixels_per_image": 1024, "ema_base": 0.99},
        "smoke": {
            "mc_passes": 4, "global_outputs": 64, "pixel_outputs": 32, "head_hidden": 64, "head_bottleneck": 32,
            "pixel_head_hidden": 64, "pixel_head_bottleneck": 32, "pixels_per_image": 256, "ema_base": 0.99,
        },
    }  # fmt: skip

    pixel_matching: bool = True  # Eq. (4): GP
    stabilizer: Literal["off", "abs_pixel", "abs_image", "hinge"] = "hinge"  # Eq. (6) | Eq. (5) | no trivial minimum
    uncertainty_weighting: bool = True  # Eq. (6): (1 - U)
    certainty: Literal["soft", "hard"] = "soft"  # 1 - U | pixels count or not, as in UA-MT (Yu et al. 2019)
    uncertainty_threshold: float = Field(0.75, gt=0, le=1)  # hard: U below which pixels count; UA-MT begins with 3/4
    uncertainty_normalization: Literal["none", "mean_one"] = "none"  # as printed | the weights of an image average 1
    global_weight: float = Field(1.0, ge=0)  # of Eq. (3) in Eq. (1); the paper adds both losses as they are
    local_weight: float = Field(1.0, ge=0)  # of Eqs. (4) to (6) in Eq. (1)
    # matched: a factor, measured every `match_every_steps`, gives the local loss a gradient on the backbone whose norm
    # is local_weight times that of the global loss.
    local_gradient: Literal["plain", "matched"] = "plain"
    match_every_steps: int = Field(25, ge=1)
    detach_partner: bool = True  # no gradient through the partner's cross-entropy
    partner: Literal["paired", "independent"] = "paired"  # two slices are each other's x~ | each has an x~ of its own
    pixel_reduction: Literal["mean", "sum"] = "mean"  # the paper prints a sum; see docs/method.md
    pixels_per_image: int = Field(0, ge=0)  # 0: every matched pixel
    symmetric: bool = False  # the paper's equations run in one direction
    mc_passes: int = Field(20, ge=1)  # paper: "We choose to perform 20 forward passes"
    uncertainty: Literal["predictive", "expected", "mutual_information"] = "predictive"
    dropout_sites: tuple[Literal["bottleneck", "decoder_out"], ...] = ("decoder_out",)
    dropout_probability: float = Field(0.5, ge=0, lt=1)  # whole channels, as in UA-MT (Yu et al. 2019), cited as [23]
    student_dropout: bool = False
    global_outputs: int = Field(1024, ge=2)
    pixel_outputs: int = Field(64, ge=2)
    head_hidden: int = Field(256, ge=8)
    head_bottleneck: int = Field(128, ge=4)
    pixel_head_hidden: int = Field(128, ge=8)
    pixel_head_bottleneck: int = Field(64, ge=4)
    student_temperature: float = Field(0.1, gt=0)  # DINO
    teacher_temperature: float = Field(0.04, gt=0)  # DINO
    collapse_guard: Literal["center", "bn_logits", "both", "none"] = "center"
    center_momentum: float = Field(0.9, ge=0, lt=1)
    checkpoint_pixel_head: bool = False  # recompute the student's pixel head in the backward pass: slower, less memory

    @model_validator(mode="after")
    def _check(self) -> PixelGlobalSettings:
        if self.stabilizer != "off" and not self.pixel_matching:
            raise ValueError(f"pixel_global.stabilizer={self.stabilizer!r} needs pixel_global.pixel_matching=true")
        if self.uncertainty_weighting and not self.pixel_matching:
            raise ValueError("pixel_global.uncertainty_weighting=true needs pixel_global.pixel_matching=true")
        return self

    @property
    def dropout(self) -> ChannelDropout:
        """Where a pass under dropout drops channels."""
        return ChannelDropout(self.dropout_sites, self.dropout_probability)

    @property
    def passes(self) -> DropoutPasses:
        """How the uncertainty of Eq. (6) is measured."""
        return DropoutPasses(self.dropout, self.mc_passes, self.uncertainty, self.teacher_temperature)

    def branch(self, network: Network, kind: type[Branch] = Branch) -> Branch:
        """A network for the student or the teacher, with new weights."""
        return kind(
            network,
            HeadSize(self.head_hidden, self.head_bottleneck, self.global_outputs),
            HeadSize(self.pixel_head_hidden, self.pixel_head_bottleneck, self.pixel_outputs)
            if self.pixel_matching
            else None,
            bn_logits=self.collapse_guard in ("bn_logits", "both"),
            checkpoint_pixel_head=self.checkpoint_pixel_head,
        )


class PixelGlobal(Method):
    """Student, teacher and their losses: `losses(pair, generator)` gives named scalars, "loss" their sum, Eq. (1)."""

    name = "pixel_global"
    Settings: ClassVar[type[Section]] = PixelGlobalSettings
    variants = ABLATION | MATCHED_ABLATION
    citation = "Zhang & Zhang, Pixel-global Self-supervised Learning with Uncertainty-aware Context Stabilizer"

    student: Branch
    teacher: Branch
    center_global: Tensor
    center_pixel: Tensor
    matched_weight: Tensor

    def __init__(self, config: Config, settings: PixelGlobalSettings | None = None) -> None:
        super().__init__(config)
        self.settings = settings or cast(PixelGlobalSettings, config.methods[self.name])
        self.student = self.settings.branch(config.network)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)  # "the initial weights" are the same
        self.register_buffer("center_global", torch.zeros(self.settings.global_outputs))
        self.register_buffer("center_pixel", torch.zeros(self.settings.pixel_outputs))
        self.recent_codes = nn.ModuleDict(
            {"global": RecentCodes(self.settings.global_outputs), "pixel": RecentCodes(self.settings.pixel_outputs)}
        )
        self.register_buffer("matched_weight", torch.zeros(()))  # of the local loss; 0 until it is measured

    @property
    def fewest_patients(self) -> int:  # type: ignore[override]
        """Two where a slice is compared with one of another patient."""
        return 1 if self.settings.stabilizer == "off" else 2

    def view_plan(self, stage: int) -> ViewPlan:
        """Partners share their views, so that each is the other's x~."""
        settings = self.settings
        return ViewPlan(self.views, settings.pixel_matching, settings.pixels_per_image, partners=True)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars of one batch: "loss" carries the gradient, the others are for the log."""
        terms = self._one_direction(pair.view_1, pair.view_2, pair, pair.pixel_1_M, pair.pixel_2_M, generator)
        if self.settings.symmetric:
            back = self._one_direction(pair.view_2, pair.view_1, pair, pair.pixel_2_M, pair.pixel_1_M, generator)
            terms = {name: (terms[name] + back[name]) / 2 for name in terms}
        terms["loss"] = self.settings.global_weight * terms["loss_global"]
        if "loss_pixel" in terms:
            weight: Tensor | float = self.settings.local_weight
            if self.settings.local_gradient == "matched":
                known = torch.where(self.matched_weight > 0, self.matched_weight, 1.0)
                weight = terms["local_weight"] = weight * known
            terms["loss"] = terms["loss"] + weight * terms["loss_pixel"]
        return terms

    def _one_direction(
        self,
        view_s: Tensor,
        view_t: Tensor,
        pair: ViewPair,
        pixel_s: Tensor,
        pixel_t: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        config, n = self.settings, len(view_s)
        counted = n if config.partner == "paired" else n // 2  # images with a loss; the rest are only partners
        with torch.no_grad():
            z_t, y_t, features_t, y_features_t = self.teacher(view_t, pair.image_M, pixel_t)
        masks = None
        if config.student_dropout:
            masks = self.student.dropout_masks(n, config.dropout, view_s, generator)
        z_s, y_s, _, _ = self.run_student(view_s, pair.image_M, pixel_s, masks)

        target_z = targets(z_t, self.center_global, config.teacher_temperature)
        terms = {"loss_global": global_loss(target_z[:counted], z_s[:counted], config.student_temperature)}
        self._describe(terms, "global", target_z[:counted])
        self._move_center(self.center_global, z_t[:counted])
        if y_s is not None and y_t is not None and y_features_t is not None:
            target_y = targets(y_t, self.center_pixel, config.teacher_temperature)
            uncertainty_M = None
            if config.uncertainty_weighting:
                pixels = MatchedPixels(features_t, y_features_t, pair.image_M, pixel_t, pair.matched_B)
                uncertainty_M = teacher_uncertainty(self.teacher, self.center_pixel, pixels, config.passes, generator)
            ce_M = disagreement(target_y, y_s, config.student_temperature)
            terms |= self._local_terms(ce_M, uncertainty_M, pair, counted)
            self._describe(terms, "pixel", target_y)
            self._move_center(self.center_pixel, y_t)
        elif config.pixel_matching:  # no twins on this worker: it still takes part in the mean over all
            none = z_t.new_zeros(0, config.pixel_outputs)
            self._note_codes("pixel", none)
            self._move_center(self.center_pixel, none)
        return terms

    def _local_terms(
        self, ce_M: Tensor, uncertainty_M: Tensor | None, pair: ViewPair, counted: int
    ) -> dict[str, Tensor]:
        """Eqs. (4) to (6) from the disagreement of all pairs, whose two halves are each other's partners."""
        config = self.settings
        partner_M = ce_M.view(2, -1).flip(0).reshape(-1)
        if config.detach_partner:
            partner_M = partner_M.detach()
        counts = pair.image_M < counted
        if config.stabilizer != "off":
            counts = counts & pair.has_partner[pair.image_M]
        certainty_M = None if uncertainty_M is None else 1 - uncertainty_M
        if uncertainty_M is not None and config.certainty == "hard":
            counts, certainty_M = counts & (uncertainty_M < config.uncertainty_threshold), None
        if certainty_M is not None and config.uncertainty_normalization == "mean_one":
            certainty_M = mean_one(certainty_M, pair.image_M, len(pair.view_1))
        terms = {
            "loss_pixel": local_loss(
                ce_M,
                None if config.stabilizer == "off" else partner_M,
                certainty_M,
                pair.image_M,
                len(pair.view_1),
                counts_M=counts,
                stabilizer=config.stabilizer,
                reduction=config.pixel_reduction,
            ),
            "cross_entropy_pixel": ce_M.detach().mean(),
            "matched_pixels_per_image": ce_M.new_full((), len(ce_M) / len(pair.view_1)),
            "images_without_twins": ce_M.new_full((), sum(not count for count in pair.matched_B)),
            "pairs_below_partner": (ce_M < partner_M).float().mean(),
        }
        if uncertainty_M is not None:
            terms["uncertainty"] = uncertainty_M.mean()
        if config.stabilizer != "off":  # they are in no local loss
            terms["images_without_partner"] = (~pair.has_partner).float().sum()
        return terms

    @torch.no_grad()
    def _move_center(self, center: Tensor, teacher_logits: Tensor) -> None:
        """DINO's centre: a running mean of raw teacher logits, over all workers, moved after it was used."""
        if self.settings.collapse_guard not in ("center", "both"):
            return
        count = teacher_logits.new_full((1,), len(teacher_logits), dtype=torch.float32)
        total = self.summed_over_workers(torch.cat([teacher_logits.float().sum(0), count]))
        weight = (1 - self.settings.center_momentum) * (total[-1] > 0)  # without any logits it stays where it is
        center.lerp_(total[:-1] / total[-1].clamp_min(1), weight.to(center.dtype))

    @torch.no_grad()
    def _describe(self, terms: dict[str, Tensor], head: str, target: Tensor) -> None:
        """Entropies, as shares of ln K, that tell a healthy head (low, high) from a uniform or a constant one."""
        self._note_codes(head, target)
        log_k = math.log(target.shape[-1])
        terms[f"entropy_of_targets_{head}"] = entropy(target).mean() / log_k
        terms[f"entropy_of_mean_target_{head}"] = entropy(target.mean(0)) / log_k

    def _note_codes(self, head: str, target: Tensor) -> None:
        cast(RecentCodes, self.recent_codes[head]).add(target, self.summed_over_workers)

    @torch.no_grad()
    def measures(self, pair: ViewPair, generator: torch.Generator) -> dict[str, HeadMeasures]:
        """Both heads on this batch, and how well twins find each other among `MEASURED_PIXELS` matched pixels."""
        with frozen_batch_norm_buffers(self):
            chosen = torch.randperm(len(pair.image_M), generator=generator)[:MEASURED_PIXELS].sort().values
            chosen = chosen.to(pair.image_M.device)
            image = pair.image_M[chosen]
            z_t, y_t, _, f_t = self.teacher(pair.view_2, image, pair.pixel_2_M[chosen])
            z_s, y_s, maps_s, f_s = self.student(pair.view_1, image, pair.pixel_1_M[chosen])
            pooled = self.student.global_head.layers(maps_s[-1].mean((2, 3)))
            measures = {"global": self._measured("global", z_t, z_s, self.center_global, pooled)}
            if f_s is not None and f_t is not None and y_t is not None and y_s is not None and len(chosen) > 1:
                assert self.student.pixel_head is not None
                pixel = self._measured("pixel", y_t, y_s, self.center_pixel, self.student.pixel_head.layers(f_s))
                measures["pixel"] = replace(pixel, values=pixel.values | match_rank(f_s, f_t, image))
        return measures

    def _measured(
        self, head: str, logits_t: Tensor, logits_s: Tensor, center: Tensor, bottleneck: Tensor
    ) -> HeadMeasures:
        code = targets(logits_t, center, self.settings.teacher_temperature)
        cross_entropy = disagreement(code, logits_s, self.settings.student_temperature).mean()
        return head_measures(code, cross_entropy, bottleneck, cast(RecentCodes, self.recent_codes[head]))

    def advice(self, head: str) -> list[str]:
        """What to try against a collapse of this head."""
        form = self.settings.stabilizer
        ways = [*super().advice(head), f"raise {self.name}.ema_base"]
        if head == "pixel" and form in ("abs_pixel", "abs_image"):
            ways.insert(0, f"use {self.name}.stabilizer=hinge ({form} is zero for any constant output)")
        if self.settings.collapse_guard == "none":
            ways.insert(0, f"use {self.name}.collapse_guard=center")
        return ways

    def before_backward(self, terms: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The norms of the gradients of both losses, without their weights, on the encoder and decoder of all workers.

        With `local_gradient="matched"` they give the factor of the local loss from the next step on.
        """
        matched = self.settings.local_gradient == "matched"
        every = self.settings.match_every_steps if matched else self.config.pretrain.measure_every_steps
        if not every or step % every:
            return {}
        losses, backbone = [terms["loss_global"], terms.get("loss_pixel")], list(self.student.backbone.parameters())
        norm_global, norm_local = gradient_norms(losses, backbone, self.summed_over_workers).unbind()
        if matched:
            self.matched_weight.copy_(matched_weight(self.matched_weight, norm_global, norm_local))
        return {"gradient_norm_global": norm_global, "gradient_norm_local": norm_local}

    def after_step(self, step: int, total_steps: int) -> None:
        """Eq. (2): the teacher follows the student."""
        move_teacher(self.teacher, self.student, self.settings, step, total_steps)

    def exported(self) -> dict[str, nn.Module]:
        """Encoder, decoder and heads of student and teacher."""
        parts: dict[str, nn.Module] = {}
        for name, branch in (("student", self.student), ("teacher", self.teacher)):
            parts |= {f"{name}.encoder": branch.backbone.encoder, f"{name}.decoder": branch.backbone.decoder}
            parts[f"{name}.global_head"] = branch.global_head
            if branch.pixel_head is not None:
                parts[f"{name}.pixel_head"] = branch.pixel_head
        return parts

    def facts(self) -> dict[str, Any]:
        """The centre of pixel logits, which uncertainty maps need."""
        return {"center_pixel": self.center_pixel.tolist()}
