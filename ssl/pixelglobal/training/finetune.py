"""Supervised fine-tuning of the encoder-decoder on few labelled patients, with early stopping on validation Dice.

Labelled sets are small, so their slices are held in memory; each step's slices and augmentation are a function of
(seed, step, worker), so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pixelglobal.config.overrides import save as save_config
from pixelglobal.config.schema import Config, Finetune
from pixelglobal.data.pool import Scans
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.devices import autocast
from pixelglobal.losses.segmentation import segmentation_loss
from pixelglobal.networks.segmenter import predict_labels
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import load_training_state, read_model, save_model, save_training_state
from pixelglobal.training.cohort_statistics import write_cohort_statistics
from pixelglobal.training.initial_segmenter import InitialSegmenter, initial_segmenter
from pixelglobal.training.labelled import MixedSampler, SliceSampler, class_frequencies, training_slices
from pixelglobal.training.optim import finetuning_optimizer, set_learning_rate, steps_per_epoch, warmup_polynomial
from pixelglobal.training.runs import Run, TrainingStopped, append_metrics, state_folder
from pixelglobal.training.workers import averaging_gradients, synchronizes_batch_norms, value_of_the_first_worker
from pixelglobal.version import __version__
from pixelglobal.views.augment import draw_whole_slices, mirror_labels, render, render_labels
from pixelglobal.views.intensity import HuScale


def finetune(
    config: Config,
    store: Store,
    run: Run,
    device: torch.device,
    *,
    pretrained: Path | None,
    train_cases: Sequence[str],
    validation_cases: Sequence[str],
    pseudo_labelled: SliceBatch | None = None,
    normalized_by: Scans | None = None,
) -> Path:
    """Fine-tune from a pre-trained model folder, or from random weights (None); returns the folder of the best model.

    The best is that of the epoch with the highest mean validation Dice (3-D, per patient, over contoured structures).
    pseudo_labelled: slices of other patients with labels that a model gave them, which are a part of every batch.
    normalized_by: the scans whose pre-training split scales the intensities for random weights; None is `store`.
    """
    settings = config.finetune
    slices = training_slices(config, store, train_cases)
    start = initial_segmenter(config, store, pretrained, device, class_frequencies(slices), normalized_by)
    optimizer = finetuning_optimizer(start.model, start.transferred, settings)
    # The first worker judges for all: the others' running averages of batch norms differ a little from its own.
    validation = {case: store.read_case(case) for case in validation_cases if run.rank == 0}
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    progress: dict[str, Any] = {"epoch": -1, "best_dice": -1.0, "best_epoch": -1}
    if (checkpoint := run.latest_checkpoint()) is not None:
        progress = load_training_state(checkpoint, {"model": start.model}, optimizer)
        scaler.load_state_dict(progress.pop("scaler"))
    synchronized = synchronizes_batch_norms(config.cluster.sync_batch_norm, run.world_size, device)
    model = averaging_gradients(start.model, run.world_size, synchronize_batch_norms=synchronized)
    steps, sampler = steps_per_epoch(settings, len(slices)), _sampler(config, run, slices, pseudo_labelled)
    swap = mirror_labels(store.structures, store.left_right_pairs).to(device)
    training = _Training(config, run, sampler, steps, model, optimizer, scaler, start.scale, swap)
    pseudo_cases = [] if pseudo_labelled is None else pseudo_labelled.case
    facts = _facts(config, store, start, slices, [*train_cases, *validation_cases, *pseudo_cases])
    if run.rank == 0:
        save_config(config, run.folder / "config.json")

    while not _is_over(progress, settings):
        epoch = progress["epoch"] = progress["epoch"] + 1
        began = time.perf_counter()
        line = training.train(epoch, device)
        if (epoch + 1) % settings.validate_every_epochs == 0 or epoch + 1 == settings.epochs:
            dice = validation_dice(start.model, validation, start.scale, config, device) if run.rank == 0 else math.nan
            line["validation_dice"] = round(value_of_the_first_worker(dice, run.world_size), 6)
            if line["validation_dice"] > progress["best_dice"]:
                progress |= {"best_dice": line["validation_dice"], "best_epoch": epoch}
                if run.rank == 0:
                    save_model(run.folder / "model", {"segmenter": start.model}, {**facts, **progress})
        if run.rank == 0:
            append_metrics(run.folder, {**line, "seconds": round(time.perf_counter() - began, 3)})
        if run.checkpoint_is_due() or _is_over(progress, settings):
            if run.rank == 0:
                state = {**progress, "scaler": scaler.state_dict()}
                save_training_state(state_folder(run, line["step"]), {"model": start.model}, optimizer, state)
            run.kept(line)
    if run.rank == 0:
        _describe_cohort(run.folder / "model", store, [*train_cases, *validation_cases], start, device)
    return run.folder / "model"


def _sampler(
    config: Config, run: Run, slices: SliceBatch, pseudo_labelled: SliceBatch | None
) -> SliceSampler | MixedSampler:
    if pseudo_labelled is None:
        return SliceSampler(slices, config)
    return MixedSampler(slices, pseudo_labelled, config, run.world_size)


def _is_over(progress: dict[str, Any], settings: Finetune) -> bool:
    """Whether the last epoch is done, or patience has ended."""
    done: int = progress["epoch"] + 1
    best: int = progress["best_epoch"]
    return done >= settings.epochs or 0 <= best < done - settings.patience_epochs


def _describe_cohort(
    folder: Path, store: Store, cases: Sequence[str], start: InitialSegmenter, device: torch.device
) -> None:
    """Keep beside the best model what its scans look like to it, so that later it can be told what is unlike them."""
    tensors = {name.removeprefix("segmenter."): tensor for name, tensor in read_model(folder)[0].items()}
    start.model.load_state_dict(tensors)
    write_cohort_statistics(folder, store, cases, start.model.backbone.encoder, start.scale, device)


def validation_dice(
    model: nn.Module, validation: dict[str, SliceBatch], scale: HuScale, config: Config, device: torch.device
) -> float:
    """Mean 3-D Dice over patients and contoured structures, on the stored grid; a structure in neither is skipped."""
    values = []
    for batch in validation.values():
        predicted = predict_labels(model, batch.image_hu, scale, config, device)
        known = torch.ones_like(batch.label, dtype=torch.bool) if batch.certainty is None else batch.certainty > 0
        for c in range(1, batch.contoured.shape[1]):
            if not batch.contoured[0, c]:
                continue
            p, r = (predicted == c) & known, batch.label == c
            size = int(p.sum()) + int(r.sum())
            if size:
                values.append(2 * int((p & r).sum()) / size)
    return float(np.mean(values)) if values else 0.0


@dataclass(frozen=True)
class _Training:
    """The epochs of one fine-tuning on one worker."""

    config: Config
    run: Run
    sampler: SliceSampler | MixedSampler
    steps: int  # of an epoch
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    scale: HuScale
    swap: Tensor  # int64 [L], the label of each structure in a mirrored slice

    def train(self, epoch: int, device: torch.device) -> dict[str, Any]:
        """Take the steps of an epoch and return its line of metrics.

        Raises TrainingStopped if a loss or a gradient is not finite.
        """
        settings, steps = self.config.finetune, self.steps
        total_steps = settings.epochs * steps
        taken, waited, first = [], 0.0, time.perf_counter()
        self.model.train()
        for step in range(epoch * steps, (epoch + 1) * steps):
            rate = warmup_polynomial(
                step,
                peak=settings.learning_rate,
                power=settings.polynomial_power,
                warmup_steps=settings.warmup_fraction * total_steps,
                total_steps=total_steps,
            )
            set_learning_rate(self.optimizer, rate)
            began = time.perf_counter()
            batch = self.sampler.of_step(step, self.run.rank, self.run.world_size)
            waited += time.perf_counter() - began
            taken.append(self._step(step, batch.to(device)))
        loss = self._finite_mean(taken, epoch)
        return {
            "stage": "finetune",
            "epoch": epoch,
            "step": (epoch + 1) * steps,
            "steps_total": total_steps,
            "learning_rate": rate,
            "loss": round(loss, 6),
            "data_wait": round(waited / (time.perf_counter() - first), 4),
        }

    def _step(self, step: int, batch: SliceBatch) -> Tensor:
        """One optimiser step; returns the loss and the norm of the gradient, still on the device, float [2]."""
        loss = self.loss(step, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return torch.stack([loss.detach().float(), norm.float()])

    def loss(self, step: int, batch: SliceBatch) -> Tensor:
        """The loss of a batch that was augmented as the step says."""
        settings, device, side = self.config.finetune, batch.image_hu.device, batch.image_hu.shape[-1]
        step_generator = generator(self.config.seed, "fine-tuning views", step, self.run.rank)
        draw = draw_whole_slices(len(batch), settings, side, step_generator).to(device)
        images = render(batch.image_hu, draw, side, self.scale).contiguous(memory_format=torch.channels_last)
        labels = render_labels(batch.label, draw, side, self.swap)
        # In a mirrored slice the left structure takes the right one's name, and with it its being contoured or not.
        contoured = torch.where(draw.flip_horizontal[:, None], batch.contoured[:, self.swap], batch.contoured)
        weight = None
        if batch.certainty is not None:  # cut like labels; no name changes in a mirror
            weight = render_labels(batch.certainty, draw, side, torch.arange(256, device=device)).float() / 255
        with autocast(device, settings.precision):
            scores = self.model(images)
        return segmentation_loss(scores, labels, contoured, settings.dice_weight, weight)

    def _finite_mean(self, taken: list[Tensor], epoch: int) -> float:
        """The mean loss of an epoch's steps, each given with its gradient norm."""
        values = torch.stack(taken).cpu()
        watched = values[:, :1] if self.scaler.is_enabled() else values  # the scaler skips a step that overflows
        if not torch.isfinite(watched).all():
            step, column = (~torch.isfinite(watched)).nonzero()[0].tolist()
            raise TrainingStopped(
                f"the fine-tuning {('loss', 'gradient')[column]} is not finite in epoch {epoch}, step {step} of the "
                f"epoch ({values[step, column]}); the best model so far is intact. Lower finetune.learning_rate or use "
                "finetune.precision=fp32, then run again"
            )
        return float(values[:, 0].mean())


def _facts(
    config: Config, store: Store, start: InitialSegmenter, slices: SliceBatch, cases: Sequence[str]
) -> dict[str, Any]:
    """What model.json says of a segmenter that starts there, is trained on these slices and chosen on these cases."""
    rows = store.cases[store.cases["case"].isin(list(cases))]
    now = dict(zip(rows["case"], rows["sha256"], strict=True))
    before = {  # another cohort may use the same names
        case if now.get(case, sha256) == sha256 else f"{case} of the pre-training": sha256
        for case, sha256 in start.cases_seen.items()
    }
    return {
        "kind": "segmenter",
        "pixelglobal_version": __version__,
        "network": config.network.effective(),
        "finetune": config.finetune.model_dump(mode="json"),
        "seed": config.seed,
        "cohort": store.name,
        "structures": list(store.structures),
        "structures_labelled": [name for c, name in enumerate(store.structures, 1) if (slices.label == c).any()],
        "left_right_pairs": [list(pair) for pair in store.left_right_pairs],
        "grid": store.grid.facts(),
        "scale": asdict(start.scale),
        "transfer": start.report,
        "cases_seen": before | now,
    }
