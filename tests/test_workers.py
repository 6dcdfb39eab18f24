"""Two workers with half of the pairs each take the step that one worker takes with all of them."""

import os
import socket
from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp

from pixelglobal import config as settings
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.networks import seeded
from pixelglobal.seeds import generator
from pixelglobal.views import HuScale, make_view_pair

CONFIG = settings.resolve("smoke", ["pretrain.pixels_per_image=0", "pretrain.pixel_outputs=8"])
PAIRS = 4


def whole_batch(config):
    images = torch.randint(-1000, 300, (2 * PAIRS, 8, 8), generator=generator(0, "images"), dtype=torch.int16)
    images = images.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return make_view_pair(
        images, torch.ones(2 * PAIRS, dtype=torch.bool), config.views, HuScale(-1024, 325, -300, 400),
        match=config.pretrain.pixel_matching, pixels_per_image=0, generator=generator(0, "views"),
    )  # fmt: skip


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
    matched_N = tuple(pair.matched_N[i] for i in mine)
    return replace(pair, image_M=number[pair.image_M[kept]], matched_N=matched_N, **images, **pixels)


def step(config, rank, workers):
    """Gradients and centres after one step. Batch statistics are a worker's own, so the networks are in eval mode."""
    method = seeded(lambda: PixelGlobal(config), 0).eval()
    if workers > 1:
        method.distribute()
    terms = method.losses(share_of(whole_batch(config), rank, workers), generator(0))
    terms["loss"].backward()
    found = {name: p.grad for name, p in method.student.named_parameters() if p.grad is not None}
    return {**found, "center_global": method.center_global, "center_pixel": method.center_pixel}


def _worker(rank, port, name, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(step(settings.variant(CONFIG, name), rank, 2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["go", "gpc"])
def test_two_workers_take_the_step_of_one(name, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, (port, name, str(tmp_path)), nprocs=2)
    one = step(settings.variant(CONFIG, name), 0, 1)
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert one.keys() == shares[0].keys()
    assert len(one) > 20
    for share in shares:
        torch.testing.assert_close(share, one, rtol=1e-4, atol=1e-6)
