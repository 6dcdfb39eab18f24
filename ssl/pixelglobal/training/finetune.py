"""Supervised fine-tuning of the encoder-decoder on few labelled patients, with early stopping on validation Dice.

Labelled sets are small, so their slices are held in memory; each step's slices and augmentation are a function of
(seed, step, worker), so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pixelglobal import __version__
from pixelglobal.config.overrides import save as save_config
from pixelglobal.config.schema import Config
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.devices import autocast, place
from pixelglobal.losses.segmentation import segmentation_loss
from pixelglobal.networks.segmenter import Segmenter, predict_labels
from pixelglobal.networks.unet import ResUNet
from pixelglobal.seeds import derive, generator, seeded
from pixelglobal.training.checkpoints import load_training_state, read_model, save_model, save_training_state, transfer
from pixelglobal.training.labelled import training_slices
from pixelglobal.training.optim import polynomial, set_learning_rate
from pixelglobal.training.runs import Run, append_metrics
from pixelglobal.training.workers import value_of_the_first_worker
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
) -> Path:
    """Fine-tune from a pre-trained model folder, or from random weights (None); returns the folder of the best model.

    The best epoch by mean validation Dice (3-D, per patient, over contoured structures) is what is returned.
    """
    settings = config.finetune
    scale, seen = _scale_and_history(config, store, pretrained)
    model, optimizer, transferred = _build(config, store, pretrained, device)
    training = training_slices(config, store, train_cases)
    # The first worker judges for all: the others' running averages of batch norms differ a little from its own.
    validation = {case: store.read_case(case) for case in validation_cases if run.rank == 0}
    steps_per_epoch = settings.steps_per_epoch or max(1, len(training) // settings.batch_size)
    total_steps = settings.epochs * steps_per_epoch
    swap = mirror_labels(store.structures, store.left_right_pairs).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    progress: dict[str, Any] = {"epoch": -1, "best_dice": -1.0, "best_epoch": -1}
    if (checkpoint := run.latest_checkpoint()) is not None:
        progress = load_training_state(checkpoint, {"model": model}, optimizer)
        scaler.load_state_dict(progress.pop("scaler"))
    trained: nn.Module = DistributedDataParallel(model) if run.world_size > 1 else model
    if run.rank == 0:
        save_config(config, run.folder / "config.json")
    facts = _facts(config, store, scale, transferred, {**seen, **_hashes(store, [*train_cases, *validation_cases])})

    for epoch in range(progress["epoch"] + 1, settings.epochs):
        if 0 <= progress["best_epoch"] < epoch - settings.patience_epochs:
            break
        began, losses = time.perf_counter(), []
        model.train()
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            rate = polynomial(
                step, start=settings.learning_rate, power=settings.polynomial_power, total_steps=total_steps
            )
            set_learning_rate(optimizer, rate)
            batch = _draw(training, config, step, run).to(device)
            losses.append(_step(config, trained, optimizer, scaler, batch, scale, swap, step, run.rank))
        line: dict[str, Any] = {
            "stage": "finetune",
            "epoch": epoch,
            "step": (epoch + 1) * steps_per_epoch,
            "steps_total": total_steps,
            "learning_rate": rate,
            "loss": round(_finite_mean(losses, epoch), 6),
        }
        progress["epoch"] = epoch
        if (epoch + 1) % settings.validate_every_epochs == 0 or epoch + 1 == settings.epochs:
            dice = validation_dice(model, validation, scale, config, device) if run.rank == 0 else math.nan
            line["validation_dice"] = round(value_of_the_first_worker(dice, run.world_size), 6)
            if line["validation_dice"] > progress["best_dice"]:
                progress |= {"best_dice": line["validation_dice"], "best_epoch": epoch}
                if run.rank == 0:
                    save_model(run.folder / "model", {"segmenter": model}, {**facts, **progress})
        if run.rank == 0:
            append_metrics(run.folder, {**line, "seconds": round(time.perf_counter() - began, 3)})
        _report_epoch(run, model, optimizer, {**progress, "scaler": scaler.state_dict()}, line)
    return run.folder / "model"


def validation_dice(
    model: nn.Module, validation: dict[str, SliceBatch], scale: HuScale, config: Config, device: torch.device
) -> float:
    """Mean 3-D Dice over patients and contoured structures, on the stored grid; a structure in neither is skipped."""
    values = []
    for batch in validation.values():
        predicted = predict_labels(model, batch.image_hu, scale, config, device)
        for c in range(1, batch.contoured.shape[1]):
            if not batch.contoured[0, c]:
                continue
            p, r = predicted == c, batch.label == c
            size = int(p.sum()) + int(r.sum())
            if size:
                values.append(2 * int((p & r).sum()) / size)
    return float(np.mean(values)) if values else 0.0


def _scale_and_history(config: Config, store: Store, pretrained: Path | None) -> tuple[HuScale, dict[str, str]]:
    """The intensity scale that the weights were trained with, and the scans they have already seen."""
    if pretrained is None:
        facts = store.normalization(store.splits.train)
        scope = config.pretrain.normalization
        return HuScale(store.hu_min, store.hu_max, facts.mean_hu, facts.std_hu, scope), {}
    saved = read_model(pretrained)[1]
    if saved.get("kind") != "pretrained":
        raise ValueError(f"{pretrained} holds a {saved.get('kind')!r} model; fine-tuning starts from a pretrained one")
    scale = HuScale(**saved["scale"])
    if (scale.hu_min, scale.hu_max) != (store.hu_min, store.hu_max):
        raise ValueError(
            f"{pretrained} was trained on HU clipped to [{scale.hu_min}, {scale.hu_max}], but {store.root} is clipped "
            f"to [{store.hu_min}, {store.hu_max}]; prepare the cohort again with the range of the weights"
        )
    return scale, dict(saved["cases_seen"])


def _build(
    config: Config, store: Store, pretrained: Path | None, device: torch.device
) -> tuple[Segmenter, torch.optim.Optimizer, str]:
    settings = config.finetune
    model = seeded(
        lambda: Segmenter(ResUNet(config.network), len(store.structures) + 1), derive(config.seed, "segmenter weights")
    )
    copied: dict[str, nn.Module] = {}
    report = "random initialisation"
    if pretrained is not None:
        parts = read_model(pretrained)[1].get("parts", ["decoder", "encoder"])  # what the method has trained of it
        wanted = ("encoder", "decoder") if settings.transfer == "encoder_decoder" else ("encoder",)
        copied = {part: model.backbone.get_submodule(part) for part in parts if part.split(".")[0] in wanted}
        report = str(transfer(pretrained, settings.transfer_from, copied))
    place(model, device)
    old = {id(p) for module in copied.values() for p in module.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in old], "factor": settings.pretrained_learning_rate_factor},
        {"params": [p for p in model.parameters() if id(p) not in old], "factor": 1.0},
    ]
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    optimizer = kind(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True)
    return model, optimizer, report


def _draw(training: SliceBatch, config: Config, step: int, run: Run) -> SliceBatch:
    """This worker's slices of a step: consecutive places in an endless chain of seeded permutations."""
    n, share = len(training), config.finetune.batch_size // run.world_size
    places = (step * run.world_size + run.rank) * share + np.arange(share)
    orders = {r: np.random.default_rng(derive(config.seed, "order", int(r))).permutation(n) for r in set(places // n)}
    return training.select(torch.tensor([orders[p // n][p % n] for p in places]))


def _step(
    config: Config,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: SliceBatch,
    scale: HuScale,
    swap: Tensor,
    step: int,
    rank: int,
) -> Tensor:
    """One optimiser step; returns the loss, still on the device."""
    settings, device, side = config.finetune, batch.image_hu.device, batch.image_hu.shape[-1]
    chance = generator(config.seed, "fine-tuning views", step, rank)
    zoom = (settings.scale_min, settings.scale_max)
    draw = draw_whole_slices(len(batch), config.views, side, zoom, chance).to(device)
    images = render(batch.image_hu, draw, side, scale).contiguous(memory_format=torch.channels_last)
    labels = render_labels(batch.label, draw, side, swap)
    # In a mirrored slice the left structure takes the right one's name, and with it its being contoured or not.
    contoured = torch.where(draw.flip_horizontal[:, None], batch.contoured[:, swap], batch.contoured)
    with autocast(device, settings.precision):
        scores = model(images)
    loss = segmentation_loss(scores, labels, contoured, settings.dice_weight)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.detach()


def _finite_mean(losses: list[Tensor], epoch: int) -> float:
    values = torch.stack(losses).cpu()
    if not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).nonzero()[0])
        raise RuntimeError(
            f"the fine-tuning loss is not finite in epoch {epoch}, step {bad} of the epoch ({values[bad]}); the best "
            "model so far is intact. Lower finetune.learning_rate or use finetune.precision=fp32, then run again"
        )
    return float(values.mean())


def _facts(
    config: Config, store: Store, scale: HuScale, transferred: str, cases_seen: dict[str, str]
) -> dict[str, Any]:
    return {
        "kind": "segmenter",
        "pixelglobal_version": __version__,
        "network": config.network.model_dump(mode="json"),
        "finetune": config.finetune.model_dump(mode="json"),
        "seed": config.seed,
        "structures": list(store.structures),
        "scale": vars(scale),
        "transfer": transferred,
        "cases_seen": cases_seen,
    }


def _report_epoch(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any], line: dict[str, Any]
) -> None:
    if run.rank != 0:
        run.report(line, None)
        return
    with tempfile.TemporaryDirectory() as scratch:
        run.report(line, save_training_state(Path(scratch) / "state", {"model": model}, optimizer, progress))


def _hashes(store: Store, cases: Sequence[str]) -> dict[str, str]:
    rows = store.cases[store.cases["case"].isin(list(cases))]
    return dict(zip(rows["case"], rows["sha256"], strict=True))
