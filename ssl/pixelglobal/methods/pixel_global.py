"""The method of the paper: global agreement, pixel agreement, context stabiliser, uncertainty weighting.

GO, GP, GPC and full are values of the config (`config.VARIANTS`), not classes. One step:

    view 1 -> student -> z' (global logits), y' (logits of matched pixels)
    view 2 -> teacher -> the same, without gradient; then its pixels again, mc_passes times under dropout
    loss = Eq. (3) + one of Eqs. (4), (5), (6)

Dropout passes repeat only what lies after the first place that drops: with the default site they cost a few small
matrix products on the matched pixels, not a pass of the network.

Shape letters: N slices, S side of a view, M matched pixel pairs, K outputs of a head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pixelglobal.config.schema import Config, Network, Pretrain
from pixelglobal.losses.consistency import disagreement, global_loss, local_loss, targets
from pixelglobal.methods.base import Method
from pixelglobal.methods.collapse import HeadMeasures, head_measures, match_rank
from pixelglobal.methods.teacher import move_teacher
from pixelglobal.networks.batch_norm import frozen_batch_norm_buffers, restored_batch_norm_buffers
from pixelglobal.networks.heads import ProjectionHead
from pixelglobal.networks.mc_dropout import can_run_in_blocks, predictive_uncertainty
from pixelglobal.networks.uncertainty import channel_mask, entropy, monte_carlo_uncertainty
from pixelglobal.networks.unet import ResUNet, pixels_of
from pixelglobal.views.pairs import ViewPair, ViewPlan

MEASURED_PIXELS = 1024  # of a batch, for the measures of collapse


class Branch(nn.Module):
    """Backbone and both heads: what the student and the teacher each have one of."""

    def __init__(self, network: Network, config: Pretrain) -> None:
        super().__init__()
        backbone = ResUNet(network)
        bn_logits = config.collapse_guard in ("bn_logits", "both")
        self.backbone = backbone
        self.global_head = ProjectionHead(
            backbone.vector_channels,
            hidden=config.head_hidden,
            bottleneck=config.head_bottleneck,
            outputs=config.global_outputs,
            hidden_layers=2,
            bn_logits=bn_logits,
        )
        self.pixel_head: ProjectionHead | None = None
        self.checkpoint_pixel_head = config.checkpoint_pixel_head
        if config.pixel_matching:
            self.pixel_head = ProjectionHead(
                backbone.pixel_channels,
                hidden=config.pixel_head_hidden,
                bottleneck=config.pixel_head_bottleneck,
                outputs=config.pixel_outputs,
                hidden_layers=1,
                bn_logits=bn_logits,
            )

    def forward(
        self, view: Tensor, image_M: Tensor, pixel_M: Tensor, masks: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None, list[Tensor], Tensor | None]:
        """Global logits [N, K], pixel logits [M, K], the encoder's maps, and pixel features [M, C] before dropout.

        masks: dropout masks [N, channels] of sites, see `Dropout`; none means no dropout.
        """
        features = self.backbone.encode(view)
        z = self.global_head(features[-1].mean((2, 3)))
        if self.pixel_head is None or not len(image_M):
            return z, None, features, None
        y_M = self.decode_pixels(features, image_M, pixel_M, masks)
        return z, self.project_pixels(y_M, image_M, masks), features, y_M

    def decode_pixels(
        self, features: list[Tensor], image_M: Tensor, pixel_M: Tensor, masks: dict[str, Tensor] | None
    ) -> Tensor:
        """Pixel features [M, C] of the encoder's maps."""
        if masks and "bottleneck" in masks:
            features = [*features[:-1], features[-1] * masks["bottleneck"][:, :, None, None].to(features[-1].dtype)]
        return pixels_of(self.backbone.decoder(features), image_M, pixel_M)

    def project_pixels(self, y_M: Tensor, image_M: Tensor, masks: dict[str, Tensor] | None) -> Tensor:
        """Pixel logits [M, K] of pixel features [M, C]."""
        assert self.pixel_head is not None
        if masks and "decoder_out" in masks:
            y_M = y_M * masks["decoder_out"].to(y_M.dtype)[image_M]
        if not (self.checkpoint_pixel_head and y_M.requires_grad):
            return self.pixel_head(y_M)
        # The second pass, inside backward, must not refresh the running averages again.
        head = self.pixel_head
        return checkpoint(
            head,
            y_M,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), restored_batch_norm_buffers(head)),
        )

    def dropout_masks(self, n: int, network: Network, like: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One draw of the masks of every dropout site for n images."""
        channels = {"bottleneck": self.backbone.vector_channels, "decoder_out": self.backbone.pixel_channels}
        return {
            site: channel_mask(n, channels[site], network.dropout_probability, like, generator)
            for site in network.dropout_sites
        }


@torch.no_grad()
def teacher_uncertainty(
    teacher: Branch,
    center: Tensor,
    features: list[Tensor],
    y_M: Tensor,
    image_M: Tensor,
    pixel_M: Tensor,
    matched_N: Sequence[int],
    network: Network,
    config: Pretrain,
    generator: torch.Generator,
) -> Tensor:
    """U [M] of the teacher's pixels; what lies before the first dropout site is not run again.

    features and y_M are the encoder's maps and the pixel features of a pass without dropout; image_M ascends, and
    matched_N says how many pixels each image has.
    """
    n = len(features[-1])
    head = teacher.pixel_head
    in_blocks = network.dropout_sites == ("decoder_out",) and config.uncertainty == "predictive"
    if in_blocks and head is not None and can_run_in_blocks(head):
        draws = [teacher.dropout_masks(n, network, features[-1], generator) for _ in range(config.mc_passes)]
        masks_PBC = torch.stack([masks["decoder_out"] for masks in draws])
        return predictive_uncertainty(head, y_M, matched_N, masks_PBC, center, config.teacher_temperature)

    def one_pass() -> Tensor:
        masks = teacher.dropout_masks(n, network, features[-1], generator)
        y = teacher.decode_pixels(features, image_M, pixel_M, masks) if "bottleneck" in masks else y_M
        return targets(teacher.project_pixels(y, image_M, masks), center, config.teacher_temperature)

    with frozen_batch_norm_buffers(teacher):
        return monte_carlo_uncertainty(one_pass, config.mc_passes, config.uncertainty)


class PixelGlobal(Method):
    """Student, teacher and their losses: `losses(pair, generator)` gives named scalars, "loss" their sum, Eq. (1)."""

    student: Branch
    teacher: Branch
    center_global: Tensor
    center_pixel: Tensor
    citation = "Zhang & Zhang, Pixel-global Self-supervised Learning with Uncertainty-aware Context Stabilizer"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.network, self.settings = config.network, config.pretrain
        self.student = Branch(self.network, self.settings)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)  # "the initial weights" are the same
        self.register_buffer("center_global", torch.zeros(self.settings.global_outputs))
        self.register_buffer("center_pixel", torch.zeros(self.settings.pixel_outputs))

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
        own = n if config.partner == "paired" else n // 2  # images whose loss counts; the rest are only partners
        with torch.no_grad():
            z_t, y_t, features_t, y_features_t = self.teacher(view_t, pair.image_M, pixel_t)
        masks = None
        if config.student_dropout:
            masks = self.student.dropout_masks(n, self.network, view_s, generator)
        z_s, y_s, _, _ = self.run_student(view_s, pair.image_M, pixel_s, masks)

        target_z = targets(z_t, self.center_global, config.teacher_temperature)
        terms = {"loss_global": global_loss(target_z[:own], z_s[:own], config.student_temperature)}
        self._describe(terms, "global", target_z[:own])
        self._move_center(self.center_global, z_t[:own])
        if y_s is not None and y_t is not None and y_features_t is not None:
            target_y = targets(y_t, self.center_pixel, config.teacher_temperature)
            uncertainty_M = None
            if config.uncertainty_weighting:
                uncertainty_M = teacher_uncertainty(
                    self.teacher, self.center_pixel, features_t, y_features_t, pair.image_M, pixel_t,
                    pair.matched_N, self.network, config, generator,
                )  # fmt: skip
            ce_M = disagreement(target_y, y_s, config.student_temperature)
            terms |= self._local_terms(ce_M, uncertainty_M, pair, own)
            self._describe(terms, "pixel", target_y)
            self._move_center(self.center_pixel, y_t)
        elif config.pixel_matching:  # no twins on this worker: it still takes part in the mean over all
            self._move_center(self.center_pixel, z_t.new_zeros(0, config.pixel_outputs))
        terms["loss"] = terms["loss_global"] + terms.get("loss_pixel", z_s.new_zeros(()))
        return terms

    def _local_terms(self, ce_M: Tensor, uncertainty_M: Tensor | None, pair: ViewPair, own: int) -> dict[str, Tensor]:
        """Eqs. (4) to (6) from the disagreement of all pairs, whose two halves are each other's partners."""
        config = self.settings
        partner_M = ce_M.view(2, -1).flip(0).reshape(-1)
        if config.detach_partner:
            partner_M = partner_M.detach()
        counts = pair.image_M < own
        if config.stabilizer != "off":
            counts = counts & pair.has_partner[pair.image_M]
        terms = {
            "loss_pixel": local_loss(
                ce_M,
                None if config.stabilizer == "off" else partner_M,
                None if uncertainty_M is None else 1 - uncertainty_M,
                pair.image_M,
                len(pair.view_1),
                counts_M=counts,
                stabilizer=config.stabilizer,
                reduction=config.pixel_reduction,
            ),
            "cross_entropy_pixel": ce_M.detach().mean(),
            "matched_pixels_per_image": ce_M.new_full((), len(ce_M) / len(pair.view_1)),
            "images_without_twins": ce_M.new_full((), sum(not count for count in pair.matched_N)),
            "pairs_below_partner": (ce_M < partner_M).float().mean(),
        }
        if uncertainty_M is not None:
            terms["uncertainty"] = uncertainty_M.mean()
        return terms

    @torch.no_grad()
    def _move_center(self, center: Tensor, teacher_logits: Tensor) -> None:
        """DINO's centre: a running mean of raw teacher logits, over all workers, moved after it was used."""
        if self.settings.collapse_guard not in ("center", "both"):
            return
        count = teacher_logits.new_full((1,), len(teacher_logits), dtype=torch.float32)
        total = torch.cat([teacher_logits.float().sum(0), count])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        weight = (1 - self.settings.center_momentum) * (total[-1] > 0)  # without any logits it stays where it is
        center.lerp_(total[:-1] / total[-1].clamp_min(1), weight.to(center.dtype))

    @torch.no_grad()
    def _describe(self, terms: dict[str, Tensor], head: str, target: Tensor) -> None:
        """Entropies, as shares of ln K, that tell a healthy head (low, high) from a uniform or a constant one."""
        log_k = math.log(target.shape[-1])
        terms[f"entropy_of_targets_{head}"] = entropy(target).mean() / log_k
        terms[f"entropy_of_mean_target_{head}"] = entropy(target.mean(0)) / log_k

    @torch.no_grad()
    def measures(self, pair: ViewPair, generator: torch.Generator) -> dict[str, HeadMeasures]:
        """Both heads on this batch, and how well twins find each other among `MEASURED_PIXELS` matched pixels."""
        with frozen_batch_norm_buffers(self):
            chosen = torch.randperm(len(pair.image_M), generator=generator)[:MEASURED_PIXELS].sort().values
            chosen = chosen.to(pair.image_M.device)
            image = pair.image_M[chosen]
            z_t, y_t, _, f_t = self.teacher(pair.view_2, image, pair.pixel_2_M[chosen])
            z_s, y_s, maps_s, f_s = self.student(pair.view_1, image, pair.pixel_1_M[chosen])
            found = {
                "global": self._measured(
                    z_t, z_s, self.center_global, self.student.global_head, maps_s[-1].mean((2, 3))
                )
            }
            if f_s is not None and f_t is not None and y_t is not None and y_s is not None and len(chosen) > 1:
                head = self.student.pixel_head
                assert head is not None
                pixel = self._measured(y_t, y_s, self.center_pixel, head, f_s)
                twins = match_rank(f_s, f_t, image)
                found["pixel"] = HeadMeasures(pixel.values | twins, pixel.n, pixel.k)
        return found

    def _measured(
        self, logits_t: Tensor, logits_s: Tensor, center: Tensor, head: ProjectionHead, inputs: Tensor
    ) -> HeadMeasures:
        code = targets(logits_t, center, self.settings.teacher_temperature)
        cross_entropy = disagreement(code, logits_s, self.settings.student_temperature).mean()
        return head_measures(code, cross_entropy, head.layers(inputs))

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
