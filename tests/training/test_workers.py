"""Two workers with half of the pairs each take the step that one worker takes with all of them."""

import os
import socket
from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp
from timm.layers import convert_sync_batchnorm
from torch import nn

from pixelglobal import config as settings
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.networks.heads import ProjectionHead
from pixelglobal.networks.mc_dropout import predictive_uncertainty
from pixelglobal.networks.uncertainty import channel_mask
from pixelglobal.seeds import generator, seeded
from pixelglobal.training.workers import average_buffers, sum_over_workers, synchronizes_batch_norms
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import ViewPlan, make_view_pair

CONFIG = settings.resolve("smoke", ["pixel_global.pixels_per_image=0", "pixel_global.pixel_outputs=8"])
PAIRS = 4


def whole_batch(config):
    images = torch.randint(-1000, 300, (2 * PAIRS, 8, 8), generator=generator(0, "images"), dtype=torch.int16)
    images = images.repeat_interleave(8, 1).repeat_interleave(8, 2)
    plan = ViewPlan(config.views, match=config.methods["pixel_global"].pixel_matching, partners=True)
    partners, scale = torch.ones(2 * PAIRS, dtype=torch.bool), HuScale(-1024, 325, -300, 400)
    return make_view_pair(images, partners, plan, scale, generator(0, "views"))


def share_of(pair, rank, workers):
    """The pairs of one worker, their images numbered anew."""
    each = PAIRS // workers
    first = torch.arange(rank * each, (rank + 1) * each)
    mine = torch.cat([first, first + PAIRS])
    number = torch.full((2 * PAIRS,), -1)
    number[mine] = torch.arange(len(mine))
    kept = number[pair.image_M] >= 0
    images = {name: getattr(pair, name)[mine] for name in ("view_1", "view_2", "has_partner", "maps_1", "maps_2")}
    pixels = {"pixel_1_M": pair.pixel_1_M[kept], "pixel_2_M": pair.pixel_2_M[kept]}
    matched_B = tuple(pair.matched_B[i] for i in mine)
    return replace(pair, image_M=number[pair.image_M[kept]], matched_B=matched_B, **images, **pixels)


def without_twins(pair):
    """The same views with no matched pixel."""
    none = {name: getattr(pair, name)[:0] for name in ("image_M", "pixel_1_M", "pixel_2_M")}
    return replace(pair, matched_B=tuple(0 for _ in pair.matched_B), **none)


def step(config, rank, workers, blind=None):
    """Gradients and centres after one step. Batch statistics are a worker's own, so the networks are in eval mode.
    The worker `blind` finds no twins."""
    method = seeded(lambda: PixelGlobal(config), 0).eval()
    if workers > 1:
        method.distribute(sum_over_workers)
    pair = share_of(whole_batch(config), rank, workers)
    terms = method.losses(without_twins(pair) if rank == blind else pair, generator(0))
    method.before_backward(terms, step=0)
    terms["loss"].backward()
    found = {name: p.grad for name, p in method.student.named_parameters() if p.grad is not None}
    return {
        **found,
        "center_global": method.center_global,
        "center_pixel": method.center_pixel,
        "weight": method.matched_weight,
    }


def _worker(rank, port, name, folder, blind=None):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(step(settings.variant(CONFIG, name), rank, 2, blind), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def on_two_workers(name, folder, blind=None):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, (port, name, str(folder), blind), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", ["go", "gpc", "gpc_matched"])
def test_two_workers_take_the_step_of_one(name, tmp_path):
    shares = on_two_workers(name, tmp_path)
    one = step(settings.variant(CONFIG, name), 0, 1)
    assert one.keys() == shares[0].keys()
    assert len(one) > 20
    for share in shares:
        torch.testing.assert_close(share, one, rtol=1e-4, atol=1e-6)


def test_a_worker_without_twins_takes_part_and_both_have_the_centre_of_the_other_s_pixels(tmp_path):
    shares = on_two_workers("gp", tmp_path, blind=1)
    torch.testing.assert_close(shares[0], shares[1])
    config = settings.variant(CONFIG, "gp")
    alone = seeded(lambda: PixelGlobal(config), 0).eval()
    alone.losses(share_of(whole_batch(config), 0, 2), generator(0))
    torch.testing.assert_close(shares[1]["center_pixel"], alone.center_pixel)
    assert alone.center_pixel.any()


def test_no_twins_at_all_leave_the_centre_where_it_is():
    method = PixelGlobal(settings.variant(CONFIG, "gp")).eval()
    method.center_pixel.fill_(0.5)
    method.losses(without_twins(whole_batch(CONFIG)), generator(0))
    assert (method.center_pixel == 0.5).all()


def uncertainty_of(rank, workers):
    """U of the pixels of one worker, in dropout passes whose batch norm sees all pixels; masks are an image's own."""
    head = seeded(lambda: convert_sync_batchnorm(ProjectionHead(6, 8, 4, 5, hidden_layers=1, bn_logits=False)), 0)
    y_MC, counts = torch.randn(70, 6, generator=generator(1)) ** 3, (30, 40)
    masks = torch.stack([channel_mask(2, 6, 0.5, y_MC, generator(i)) for i in range(3)])
    if workers == 1:
        head.layers[1].__class__ = nn.BatchNorm1d
        return predictive_uncertainty(head.train(), y_MC, counts, masks, torch.zeros(5), 0.04)
    y = y_MC.split(counts)[rank]
    return predictive_uncertainty(head.train(), y, [len(y)], masks[:, rank : rank + 1], torch.zeros(5), 0.04)


def _exchange(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(rank + 1.0)
    norm.running_var.fill_(10.0 * rank)
    average_buffers(norm, 2)
    torch.save((norm.state_dict(), uncertainty_of(rank, 2)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_share_running_averages_and_the_statistics_of_dropout_passes(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_exchange, (port, str(tmp_path)), nprocs=2)
    (first, u_0), (second, u_1) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for state in (first, second):
        assert state["running_mean"].tolist() == [1.5, 1.5]
        assert state["running_var"].tolist() == [5, 5]
    torch.testing.assert_close(torch.cat([u_0, u_1]), uncertainty_of(0, 1))


def test_batch_norms_are_synchronised_with_cuda_alone():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert synchronizes_batch_norms(None, 2, cuda)
    assert not synchronizes_batch_norms(False, 2, cuda)
    assert not synchronizes_batch_norms(None, 2, cpu)
    assert not synchronizes_batch_norms(True, 1, cpu)
    with pytest.raises(ValueError, match=r"cluster\.sync_batch_norm=true with workers on cpu"):
        synchronizes_batch_norms(True, 2, cpu)


def test_every_batch_norm_of_student_and_teacher_is_synchronised(monkeypatch):
    monkeypatch.setattr("pixelglobal.methods.base.DistributedDataParallel", lambda student, **_: student)
    method = PixelGlobal(CONFIG)
    before = set(method.state_dict())
    method.distribute(sum_over_workers, synchronize_batch_norms=True)
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 20
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    assert set(method.state_dict()) == before
