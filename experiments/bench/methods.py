"""What every method costs on the same encoder, slices and batch: parameters, FLOPs, memory, slices a second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench.step import Size, Step, peak_memory_mib, training_step
from experiments.bench.timing import Findings, interleaved
from pixelglobal import config as settings
from pixelglobal.config.registry import METHODS, method_class
from pixelglobal.devices import default_device, place
from pixelglobal.methods.base import Method
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import make_view_pair


def bench_methods(size: Size, rounds: int = 7, threads: int | None = None) -> Findings:
    """One row for each method and stage; a step is forward, backward, optimiser and teacher, its views made before."""
    if threads:
        torch.set_num_threads(threads)
    device = default_device()
    findings = Findings(
        f"a step of each method, {size.encoder}, {size.crop_size} x {size.crop_size}, batch {size.batch_size}, "
        f"{size.mc_passes} passes, {size.precision}",
        facts={"device": str(device), "torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": rounds},
    )
    steps: dict[str, Step] = {}
    for name in METHODS:
        method = _method(name, size, device)
        for stage in range(method.stages):
            label = f"{name}, stage {stage + 1} of {method.stages}" if method.stages > 1 else name
            steps[label] = training_step(method, _views(method, stage, size, device), device)
            findings.rows.append(
                {"method": label, "student (M)": _millions(method.student), "transferred (M)": _transferred(method)}
            )
    seconds = interleaved(steps, rounds)
    for row in findings.rows:
        step = steps[row["method"]]
        with FlopCounterMode(display=False) as counter:
            step()
        row["GFLOPs a slice"] = counter.get_total_flops() / 1e9 / size.batch_size
        row["peak memory (MiB)"] = peak_memory_mib(step)
        row["slices a second"] = size.batch_size / seconds[row["method"]]
    return findings


def _method(name: str, size: Size, device: torch.device) -> Method:
    pretrain = {"method": name, "batch_size": size.batch_size, "precision": size.precision}
    wanted: dict[str, Any] = {"network": {"encoder": size.encoder}, "views": {"crop_size": size.crop_size}}
    config = settings.resolve("paper", {**wanted, "pretrain": pretrain, "pixel_global": {"mc_passes": size.mc_passes}})
    torch.manual_seed(0)
    method = place(method_class(name)(config), device)
    assert isinstance(method, Method)
    return method


def _views(method: Method, stage: int, size: Size, device: torch.device) -> Any:
    """Views of random slices of two scans, as the method plans them."""
    generator, n = torch.Generator().manual_seed(0), size.batch_size
    side = round(size.crop_size * 384 / 224 / 32) * 32  # as large beside the crop as in the paper
    images = torch.randint(-1000, 300, (n, side, side), dtype=torch.int16, generator=generator).to(device)
    partners = torch.ones(n, dtype=torch.bool)
    scale = HuScale(-1024.0, 325.0, -400.0, 400.0)
    pair = make_view_pair(images, partners, method.view_plan(stage), scale, generator)
    place_in_scan = torch.arange(n, device=device)
    return replace(pair, volume_B=place_in_scan % 2, depth_B=(place_in_scan + 0.5) / n, stage=stage)


def _transferred(method: Method) -> float:
    parts = method.exported().items()
    return sum(_millions(part) for key, part in parts if key.startswith(("student.encoder", "student.decoder")))


def _millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6
