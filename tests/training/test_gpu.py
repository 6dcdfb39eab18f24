"""What must hold on a CUDA device: the same draws, twins and losses as on the CPU, and training in mixed precision."""

from dataclasses import replace

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.config.registry import method_class
from pixelglobal.data.stream import LocalStream
from pixelglobal.devices import autocast
from pixelglobal.evaluation.uncertainty_maps import uncertainty_maps
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.seeds import generator, seeded
from pixelglobal.training.finetune import finetune
from pixelglobal.training.optim import pretraining_optimizer
from pixelglobal.training.pretrain import hu_scale, pretrain, views_of
from pixelglobal.training.runs import LocalRun, read_metrics
from pixelglobal.views.augment import draw_views
from pixelglobal.views.geometry import twin_table
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import ViewPlan, make_view_pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
SCALE = HuScale(-1024, 325, -300, 400)


def test_twins_are_the_same_on_both_devices(tiny):
    maps = [draw_views(16, tiny.views, 48, generator(seed)).maps for seed in (0, 1)]
    here = twin_table(*maps, 32, 48, 48)
    there = twin_table(*(m.cuda() for m in maps), 32, 48, 48).cpu()
    assert (here == there).float().mean() > 0.9999  # a point on a border may fall to either side


def test_a_step_gives_the_same_losses_on_both_devices(tiny):
    images = torch.randint(-1000, 300, (4, 32, 32), generator=generator(0), dtype=torch.int16)
    partners = torch.ones(4, dtype=torch.bool)
    terms = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        method = seeded(lambda: PixelGlobal(tiny), 0).to(device).train()
        plan = ViewPlan(tiny.views, match=True, partners=True)
        pair = make_view_pair(images.to(device), partners, plan, SCALE, generator(1))
        terms.append({k: v.item() for k, v in method.losses(pair, generator(2)).items()})
    for name in ("loss_global", "cross_entropy_pixel", "uncertainty"):
        assert terms[0][name] == pytest.approx(terms[1][name], rel=2e-3), name


@pytest.mark.parametrize(
    "name", ["gl", "pgl", "byol", "simclr", "dino", "restore", "moco", "densecl", "pixpro", "restore_full"]
)
def test_every_method_gives_the_same_losses_on_both_devices_and_trains(tiny, store, tmp_path, name):
    config = settings.with_settings(tiny, pretrain={"method": name, "precision": "bf16"})
    images = torch.randint(-1000, 300, (4, 32, 32), generator=generator(0), dtype=torch.int16)
    kind, terms = method_class(name), []
    for device in (torch.device("cpu"), torch.device("cuda")):
        method = seeded(lambda: kind(config), 0).to(device).train()
        for stage in range(method.stages):
            partners = torch.ones(4, dtype=torch.bool)
            pair = make_view_pair(images.to(device), partners, method.view_plan(stage), SCALE, generator(1))
            where = {"volume_B": torch.arange(4, device=device), "depth_B": torch.arange(4, device=device) / 4}
            terms.append(method.losses(replace(pair, stage=stage, **where), generator(2))["loss"].item())
    half = len(terms) // 2
    assert terms[:half] == pytest.approx(terms[half:], rel=5e-3)
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=0)
    pretrain(config, store, stream, LocalRun(tmp_path), torch.device("cuda"))
    assert all(line["loss"] == line["loss"] for line in read_metrics(tmp_path))


def test_a_step_never_waits_for_the_device(tiny, store):
    """From the batch to the moved teacher; the log is read every few steps."""
    config, device = settings.with_settings(tiny, pretrain={"precision": "bf16"}), torch.device("cuda")
    method = seeded(lambda: PixelGlobal(config), 0).to(device).train()
    optimizer = pretraining_optimizer(method.trainable(), config.pretrain)
    stream = LocalStream(store, store.splits.pretrain, batch_size=4, seed=0)
    scale = hu_scale(config, store)
    try:
        for step, batch in zip(range(3), stream.batches(0), strict=False):
            torch.cuda.set_sync_debug_mode("error" if step == 2 else "default")  # the first ones load kernels
            pair = views_of(batch, method, 0, scale, device, generator(step))
            with autocast(device, "bf16"):
                loss = method.losses(pair, generator(step))["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(method.trainable().parameters(), 3.0)
            optimizer.step()
            method.after_step(step, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_the_main_job_in_every_precision(tiny, store, tmp_path, precision):
    config = settings.with_settings(tiny, pretrain={"precision": precision}, finetune={"precision": precision})
    device = torch.device("cuda")
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=0)
    model = pretrain(config, store, stream, LocalRun(tmp_path / "pre"), device)
    assert all(line["loss"] == line["loss"] for line in read_metrics(tmp_path / "pre"))
    cases = {"train_cases": store.splits.train, "validation_cases": store.splits.validation}
    finetune(config, store, LocalRun(tmp_path / "ft"), device, pretrained=model, **cases)
    maps = uncertainty_maps(model, store.read_case(store.splits.test[0]).image_hu[3:4], device)
    assert torch.isfinite(maps).all()
