"""One pre-training step: GO, GP, GPC and full, full as the paper writes it, and lightly's DINO; time, FLOPs, memory."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench.timing import Findings, interleaved
from pixelglobal import config as settings
from pixelglobal.devices import AUTOCAST_DTYPE, autocast, default_device, place
from pixelglobal.losses.consistency import targets
from pixelglobal.methods import pixel_global
from pixelglobal.methods.base import Method
from pixelglobal.networks.batch_norm import frozen_batch_norm_buffers
from pixelglobal.networks.branch import Branch, DropoutPasses, MatchedPixels
from pixelglobal.networks.uncertainty import monte_carlo_uncertainty
from pixelglobal.training.optim import pretraining_optimizer
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import ViewPair, make_view_pair

VARIANTS = ("go", "gp", "gpc", "full", "naive", "lightly_dino")
Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Size:
    """What is trained on what."""

    encoder: str = "resnet50"
    crop_size: int = 224
    batch_size: int = 8
    mc_passes: int = 20
    precision: str = "fp32"


def bench_step(size: Size, rounds: int = 7, threads: int | None = None, device_type: str | None = None) -> Findings:
    """Medians of interleaved steps with backward, optimiser and EMA; views are made beforehand.

    Each step's share of peak is its FLOPs a second over those of one large product of matrices in the same precision.
    Raises ValueError if a CUDA device is asked for and there is none.
    """
    if threads:
        torch.set_num_threads(threads)
    if device_type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device cuda, but PyTorch {torch.__version__} finds no CUDA device here; use --device cpu")
    device = torch.device(device_type) if device_type else default_device()
    findings = Findings(
        f"one step, {size.encoder}, {size.crop_size} x {size.crop_size}, batch {size.batch_size}, "
        f"{size.mc_passes} passes, {size.precision}",
        facts={
            "device": _name_of(device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "rounds": rounds,
        },
    )
    findings.facts["torch"] = torch.__version__
    steps = {name: step for name in VARIANTS if (step := make_step(name, size, device)) is not None}
    product, product_flops = _matrix_product(size.precision, device)
    seconds = interleaved({**steps, "product": product}, rounds)
    peak = product_flops / seconds["product"]
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        flops = counter.get_total_flops()
        row = {"step": name, "seconds": seconds[name], "GFLOPs": flops / 1e9, "of peak": flops / seconds[name] / peak}
        findings.rows.append(row | {"peak memory (MiB)": peak_memory_mib(step)})
    rows = {row["step"]: row for row in findings.rows}
    for name, column in (("time", "seconds"), ("flops", "GFLOPs"), ("memory", "peak memory (MiB)")):
        findings.ratios[f"full_over_gp_{name}"] = rows["full"][column] / rows["gp"][column]
    findings.ratios["naive_over_full_time"] = rows["naive"]["seconds"] / rows["full"]["seconds"]
    if "lightly_dino" in rows:
        findings.ratios["go_over_lightly_dino_time"] = rows["lightly_dino"]["seconds"] / rows["go"]["seconds"]
    return findings


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _matrix_product(precision: str, device: torch.device) -> tuple[Step, int]:
    """A product of two square matrices, the fastest work that a device does, and its floating-point operations."""
    n = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(2, n, n, device=device, dtype=AUTOCAST_DTYPE.get(precision, torch.float32))
    return lambda: left @ right, 2 * n**3


def make_step(name: str, size: Size, device: torch.device) -> Step | None:
    """A function that trains one step; None for a peer that is not installed."""
    if name == "lightly_dino":
        return _lightly_step(size, device)
    partner = "independent" if name == "naive" else "paired"
    config = settings.resolve(
        "paper",
        {
            "network": {"encoder": size.encoder},
            "views": {"crop_size": size.crop_size},
            "pretrain": {"batch_size": size.batch_size, "precision": size.precision},
            "pixel_global": {"mc_passes": size.mc_passes, "partner": partner},
        },
    )
    config = settings.variant(config, "full" if name == "naive" else name)
    torch.manual_seed(0)
    method = place(pixel_global.PixelGlobal(config), device)
    assert isinstance(method, pixel_global.PixelGlobal)
    pair = _pair(method, size, device)
    step = training_step(method, pair, device)

    def naive_step() -> Tensor:
        module: Any = pixel_global
        ours, module.teacher_uncertainty = module.teacher_uncertainty, _whole_passes(pair)
        try:
            return step()
        finally:
            module.teacher_uncertainty = ours

    return naive_step if name == "naive" else step


def training_step(method: Method, pair: ViewPair, device: torch.device) -> Step:
    """A function that trains a method on one batch of views: forward, backward, optimiser, teacher."""
    generator, pretrain = torch.Generator().manual_seed(0), method.config.pretrain
    optimizer = pretraining_optimizer(method.train().trainable(), pretrain)

    def step() -> Tensor:
        with autocast(device, pretrain.precision):
            loss = method.losses(pair, generator)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step(0, 100)
        return loss.detach()

    return step


def _pair(method: pixel_global.PixelGlobal, size: Size, device: torch.device) -> ViewPair:
    """Views of random slices; an independent partner is a second slice under the same draw."""
    generator = torch.Generator().manual_seed(0)
    side = round(size.crop_size * 384 / 224 / 32) * 32  # as large beside the crop as in the paper
    n = size.batch_size * (2 if method.settings.partner == "independent" else 1)
    images = torch.randint(-1000, 300, (n, side, side), dtype=torch.int16, generator=generator).to(device)
    plan = method.view_plan(0)
    plan = replace(plan, pixels_per_image=0, partners=True)
    scale = HuScale(-1024.0, 325.0, -400.0, 400.0, "dataset")
    return make_view_pair(images, torch.ones(n, dtype=torch.bool), plan, scale, generator)


def _whole_passes(pair: ViewPair) -> Any:
    """The uncertainty from passes of the whole teacher, as it would be written down first."""

    def uncertainty(
        teacher: Branch, center: Tensor, pixels: MatchedPixels, how: DropoutPasses, generator: torch.Generator
    ) -> Tensor:
        def one_pass() -> Tensor:
            masks = teacher.dropout_masks(len(pair.view_2), how.dropout, pair.view_2, generator)
            logits = teacher(pair.view_2, pixels.image_M, pixels.pixel_M, masks)[1]
            return targets(logits, center, how.temperature)

        with torch.no_grad(), frozen_batch_norm_buffers(teacher):
            return monte_carlo_uncertainty(one_pass, how.passes, how.measure)

    return uncertainty


def _lightly_step(size: Size, device: torch.device) -> Step | None:
    """DINO by lightly on the same encoder, batch and two views; it runs both views through both networks."""
    try:
        import timm
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead
        from lightly.models.utils import update_momentum
    except ImportError:
        return None
    encoder = functools.partial(timm.create_model, size.encoder, in_chans=1, num_classes=0)

    def build() -> nn.Module:
        network = nn.Sequential(encoder(), DINOProjectionHead(encoder().num_features, 256, 128, 1024))
        return place(network, device)

    torch.manual_seed(0)
    student, teacher = build(), build()
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    loss_of = DINOLoss(output_dim=1024).to(device)
    config = settings.resolve("paper")
    optimizer = pretraining_optimizer(student, config.pretrain)
    views = torch.randn(2, size.batch_size, 1, size.crop_size, size.crop_size, device=device)

    def step() -> Tensor:
        with autocast(device, size.precision):
            with torch.no_grad():
                targets = [teacher(view) for view in views]
            loss = loss_of(targets, [student(view) for view in views], epoch=0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        update_momentum(student, teacher, 0.996)
        return loss.detach()

    return step


def peak_memory_mib(step: Step) -> float:
    """Memory of one step beyond what lies there before it: CUDA's own count, or the CPU allocator's events."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    events.sort(key=lambda e: e["ts"])
    now = peak = 0
    for event in events:
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak / 2**20
