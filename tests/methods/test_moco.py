"""MoCo and DenseCL: what is in the queue, when it enters, and what the dense loss compares."""

import pytest
import torch
import torch.nn.functional as F

from pixelglobal.losses.contrastive import queue_contrast
from pixelglobal.losses.dense import most_alike
from pixelglobal.methods.moco import Queue
from pixelglobal.methods.pgl import level_of_stride
from pixelglobal.networks.unet import ResUNet
from pixelglobal.seeds import generator
from tests.methods.test_methods import a_pair, built, of


def test_the_queue_keeps_the_last_vectors_and_goes_round():
    queue = Queue(5, 2, 2, "moco.queue")
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(5))
    for step in range(4):
        queue.put(torch.full((2, 2), float(step)))
    assert sorted(queue.vectors[:, 0].tolist()) == [1, 2, 2, 3, 3]
    assert queue.position.item() == 3
    with pytest.raises(ValueError, match=r"moco\.queue=4 is less than the 8 slices of a batch; raise it"):
        Queue(4, 2, 8, "moco.queue")


def test_keys_become_negatives_after_their_own_step(tiny):
    method = built(of(tiny, "moco"))
    pair = a_pair(method)
    before = method.queue.vectors.clone()
    loss = method.losses(pair, generator(0))["loss"]
    with torch.no_grad():
        key, query = method.teacher(pair.view_2), method.student(pair.view_1)
    torch.testing.assert_close(loss.detach(), queue_contrast(query, key, before, 0.2))
    torch.testing.assert_close(method.queue.vectors[:8], key)
    torch.testing.assert_close(method.queue.vectors[8:], before[8:])


def test_densecl_compares_each_cell_with_the_most_alike_and_queues_mean_cells(tiny):
    method = built(of(tiny, "densecl"))
    pair = a_pair(method)
    before, dense_before = method.queue.vectors.clone(), method.dense_queue.vectors.clone()
    terms = method.losses(pair, generator(0))
    with torch.no_grad():
        key, cells_2, features_2 = method.teacher(pair.view_2)
        query, cells_1, features_1 = method.student(pair.view_1)
    twin, losses = most_alike(features_1, features_2), []
    for image in range(8):
        for cell in range(cells_1.shape[2]):
            mine, theirs = cells_1[image, :, cell], cells_2[image, :, twin[image, cell]]
            losses.append(queue_contrast(*(F.normalize(v, dim=0)[None] for v in (mine, theirs)), dense_before, 0.2))
    assert cells_1.shape[2] == 16
    torch.testing.assert_close(terms["loss_dense"].detach(), 0.5 * torch.stack(losses).mean())
    torch.testing.assert_close(terms["loss_global"].detach(), 0.5 * queue_contrast(query, key, before, 0.2))
    torch.testing.assert_close(method.dense_queue.vectors[:8], F.normalize(cells_2.mean(2), dim=1))


def test_the_map_of_a_stride_is_found_and_a_stride_without_one_is_named(tiny):
    encoder = ResUNet(tiny.network).encoder
    for stride in (4, 32):
        level, channels = level_of_stride(encoder, stride, "pixpro.stride", "resnet10t")
        assert encoder(torch.zeros(1, 1, 64, 64))[level].shape == (1, channels, 64 // stride, 64 // stride)
    with pytest.raises(ValueError, match=r"pixpro\.stride=64: resnet10t has maps of strides \[2, 4, 8, 16, 32\]"):
        level_of_stride(encoder, 64, "pixpro.stride", "resnet10t")
