"""Self-supervised pre-training: one loop, told from top to bottom.

The loop is a plain function of a config, a stream of slices and a run; it does not know whether it is alone or one
of many workers on a cluster. Every random draw is a function of (seed, step, worker), so a resumed run equals an
uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from pixelglobal.config.overrides import save as save_config
from pixelglobal.config.registry import method_class
from pixelglobal.config.schema import Config
from pixelglobal.data.pool import Pool, Scans
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.store import Store
from pixelglobal.data.stream import Stream
from pixelglobal.devices import autocast, place, send
from pixelglobal.methods.base import Method
from pixelglobal.networks.unet import compile_networks
from pixelglobal.seeds import derive, generator, seeded
from pixelglobal.training.checkpoints import load_training_state, save_model, save_training_state
from pixelglobal.training.collapse_watch import CollapseWatch
from pixelglobal.training.optim import pretraining_optimizer, set_learning_rate, steps_per_epoch, warmup_cosine
from pixelglobal.training.runs import Run, state_folder
from pixelglobal.training.step_log import StepLog
from pixelglobal.training.workers import average_buffers, sum_over_workers, synchronizes_batch_norms
from pixelglobal.version import __version__
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import ViewPair, make_view_pair, pair_partners


def pretrain(config: Config, scans: Scans, stream: Stream, run: Run, device: torch.device) -> Path:
    """Pre-train on a stream of slices of a store or a pool and return the folder of the exported model.

    Continues from `run.latest_checkpoint()` if there is one. Raises TrainingStopped when the loss or the gradient of a
    step is not finite, with the step, the terms and the slices, leaving the last checkpoint as it was.
    """
    settings = config.pretrain
    refuse_other_channels(config, scans)
    scale = hu_scale(config, scans)
    method = _new_method(config, scans, device)
    optimizer, weights = pretraining_optimizer(method.trainable(), settings), list(method.trainable().parameters())
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    epoch_steps = steps_per_epoch(settings, stream.n_slices)
    total_steps = settings.epochs * epoch_steps
    warmup_steps = settings.warmup_epochs * epoch_steps
    watch = CollapseWatch(run, settings, warmup_steps)
    first_step = 0
    if (checkpoint := run.latest_checkpoint()) is not None:
        facts = load_training_state(checkpoint, {"method": method}, optimizer)
        scaler.load_state_dict(facts["scaler"])
        watch.resume(facts["watch"])
        first_step = facts["step"]
    _compile_and_distribute(method, config, run, device)
    if run.rank == 0:
        save_config(config, run.folder / "config.json")
    log = StepLog(run, settings.log_every_steps, total_steps, settings.batch_size, scaler.is_enabled())

    method.train()
    for step, batch in zip(range(first_step, total_steps), log.waiting_for(stream.batches(first_step)), strict=False):
        step_generator = generator(config.pretraining_seed, "views", step, run.rank)
        stage, step_in_stage, steps_in_stage = stage_of(step, total_steps, method.stages)
        pair = views_of(batch, method, stage, scale, device, step_generator)
        rate = warmup_cosine(
            step_in_stage, peak=settings.learning_rate, warmup_steps=warmup_steps, total_steps=steps_in_stage
        )
        set_learning_rate(optimizer, rate)
        with autocast(device, settings.precision):
            terms = method.losses(pair, step_generator)
        terms |= method.before_backward(terms, step)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(terms["loss"]).backward()
        scaler.unscale_(optimizer)
        terms["gradient_norm"] = clip_grad_norm_(weights, settings.gradient_clip or math.inf)
        scaler.step(optimizer)
        scaler.update()
        method.after_step(step, total_steps)
        if watch.is_due(step):
            log.measured(watch.look(method, pair, step, generator(config.pretraining_seed, "measures", step, run.rank)))
        log.note(step // epoch_steps, step, rate, terms, batch)
        if step + 1 == total_steps or (log.is_empty and run.checkpoint_is_due()):
            log.flush()  # which refuses what is not finite
            average_buffers(method, run.world_size)
            if run.rank == 0:
                facts = {"step": step + 1, "scaler": scaler.state_dict(), "watch": watch.state()}
                save_training_state(state_folder(run, step + 1), {"method": method}, optimizer, facts)
            run.kept(log.last)
    if run.rank == 0:
        _export(config, scans, method, scale, run.folder / "model")
    return run.folder / "model"


def stage_of(step: int, total_steps: int, stages: int) -> tuple[int, int, int]:
    """The stage of a step when a run has equal stages, the step's place in it, and how many steps it has.

    >>> [stage_of(step, 5, 2) for step in range(5)]
    [(0, 0, 3), (0, 1, 3), (0, 2, 3), (1, 0, 2), (1, 1, 2)]
    """
    stage = step * stages // total_steps
    first, end = (-(-s * total_steps // stages) for s in (stage, stage + 1))
    return stage, step - first, end - first


def views_of(
    batch: SliceBatch, method: Method, stage: int, scale: HuScale, device: torch.device, generator: torch.Generator
) -> ViewPair:
    """Both views of a batch, its slices put in the order of partners."""
    order, has_partner = pair_partners(batch.patient, generator)
    images = send(batch.image_hu[order], device)
    pair = make_view_pair(images, has_partner, method.view_plan(stage), scale, generator)
    volumes = {case: number for number, case in enumerate(dict.fromkeys(batch.case))}
    volume_B = torch.tensor([volumes[case] for case in batch.case])[order]
    depth_B = ((batch.slice_index + 0.5) / batch.n_slices)[order]
    return replace(pair, volume_B=send(volume_B, device), depth_B=send(depth_B, device), stage=stage)


def pretraining_cases(config: Config, scans: Scans) -> tuple[str, ...]:
    """The scans that an epoch of a pre-training shows; those of a pool may be there several times."""
    if isinstance(scans, Store):
        return tuple(sorted(getattr(scans.splits, config.pretrain.cases)))
    assert isinstance(scans, Pool)
    return scans.scans


def _compile_and_distribute(method: Method, config: Config, run: Run, device: torch.device) -> None:
    if config.pretrain.compile:
        compile_networks(method)
    if run.world_size > 1:
        synchronized = synchronizes_batch_norms(config.cluster.sync_batch_norm, run.world_size, device)
        method.distribute(sum_over_workers, synchronize_batch_norms=synchronized)


def _new_method(config: Config, scans: Scans, device: torch.device) -> Method:
    """The chosen method with its first weights; ValueError where it needs more patients than there are."""
    new = method_class(config.pretrain.method)
    method = place(seeded(lambda: new(config), derive(config.pretraining_seed, "weights")), device)
    assert isinstance(method, Method)
    if not scans.grid.is_ct and any(method.view_plan(stage).anatomy for stage in range(method.stages)):
        raise ValueError(
            f"{scans.root} holds pictures, and {method.name} restores the HU of a body; choose another method, such "
            "as pixel_global"
        )
    seen = scans.cases["case"].isin(pretraining_cases(config, scans))
    if (patients := scans.cases[seen]["patient"].nunique()) < method.fewest_patients:
        raise ValueError(
            f"{scans.root}: split {config.pretrain.cases!r} has {patients} patient, and {method.name} compares each "
            f"slice with one of another patient; prepare scans of {method.fewest_patients} patients or more"
        )
    return method


def refuse_other_channels(config: Config, scans: Scans) -> None:
    """Raise ValueError if the network takes another number of channels than the slices have."""
    if config.network.in_channels != scans.channels:
        raise ValueError(
            f"{scans.root} has slices of {scans.channels} channels, and network.in_channels="
            f"{config.network.in_channels}; set network.in_channels={scans.channels}"
        )


def hu_scale(config: Config, scans: Scans) -> HuScale:
    """The intensity scale of a pre-training: clip range of its scans, z-score over the pre-training cases only."""
    facts = scans.normalization(pretraining_cases(config, scans))
    return HuScale(scans.hu_min, scans.hu_max, facts.mean_hu, facts.std_hu, config.pretrain.normalization)


def _export(config: Config, scans: Scans, method: Method, scale: HuScale, folder: Path) -> None:
    parts = method.exported()
    seen = scans.cases[scans.cases["case"].isin(pretraining_cases(config, scans))]
    values = {**config.model_dump(mode="json"), "network": config.network.effective()}
    facts = {
        "kind": "pretrained",
        "pixelglobal_version": __version__,
        "citation": method.citation,
        **{section: values[section] for section in ("network", "pretrain", config.method_section)},
        "seed": config.pretraining_seed,
        "grid": scans.grid.facts(),
        "scale": asdict(scale),
        "parts": sorted({name.partition(".")[2] for name in parts if name.split(".")[1] in ("encoder", "decoder")}),
        **method.facts(),
        "cohort": scans.name,
        **({"source_shares": scans.shares} if isinstance(scans, Pool) else {}),
        "cases_seen": dict(zip(seen["case"], seen["sha256"], strict=True)),
    }
    save_model(folder, parts, facts)
