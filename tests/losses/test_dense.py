"""The losses on cells, and MoCo's, against plain loops and lightly's."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from pixelglobal import config as settings
from pixelglobal.losses.contrastive import queue_contrast
from pixelglobal.losses.dense import agreement, most_alike, propagate
from pixelglobal.methods.pixpro import same_place
from pixelglobal.seeds import generator
from pixelglobal.views.augment import draw_views
from pixelglobal.views.geometry import to_source

LIGHTLY = "lightly comes with the extra: pip install '.[bench]'"


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def columns(cells):
    """The vectors of the cells of one image [D, Q]."""
    return cells.T.tolist()


def test_queue_contrast_is_the_share_of_the_key_among_key_and_queue():
    query, key, queue = (F.normalize(numbers(n, 6, seed=i), dim=1) for i, n in enumerate((4, 4, 9)))
    losses = []
    for q, k in zip(query.tolist(), key.tolist(), strict=True):
        top = math.exp(cosine(q, k) / 0.2)
        losses.append(-math.log(top / (top + sum(math.exp(cosine(q, n) / 0.2) for n in queue.tolist()))))
    assert queue_contrast(query, key, queue, 0.2).item() == pytest.approx(sum(losses) / 4, abs=1e-5)


def test_queue_contrast_is_lightly_s():
    loss = pytest.importorskip("lightly.loss", reason=LIGHTLY)
    query, key, queue = (F.normalize(numbers(n, 6, seed=i), dim=1) for i, n in enumerate((4, 4, 9)))
    theirs = loss.NTXentLoss(temperature=0.2, memory_bank_size=(9, 6)).train()
    theirs.memory_bank.bank = queue.T.clone() if theirs.memory_bank.bank.shape == (6, 9) else queue.clone()
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    assert theirs(query, key.clone()).item() == pytest.approx(queue_contrast(query, key, queue, 0.2).item(), abs=1e-5)


def test_the_most_alike_cell_is_found_whatever_its_norm():
    first, second = numbers(2, 5, 6), numbers(2, 5, 6, seed=1) * torch.linspace(0.1, 10, 6)
    for image, row in zip(range(2), most_alike(first, second).tolist(), strict=True):
        for cell, chosen in zip(columns(first[image]), row, strict=True):
            likeness = [cosine(cell, other) for other in columns(second[image])]
            assert likeness.index(max(likeness)) == chosen


def test_the_most_alike_cell_is_lightly_s():
    utils = pytest.importorskip("lightly.models.utils", reason=LIGHTLY)
    first, second = numbers(2, 5, 6), numbers(2, 5, 6, seed=1)
    assert torch.equal(utils.most_similar_index(first.mT, second.mT), most_alike(first, second))


def test_propagation_is_a_sum_over_cells_weighted_by_likeness():
    maps, transformed = numbers(2, 4, 6), numbers(2, 4, 6, seed=1)
    found = propagate(maps, transformed, 2.0)
    for image in range(2):
        cells, values = columns(maps[image]), columns(F.normalize(transformed, dim=1)[image])
        for i in range(6):
            weights = [max(0.0, cosine(cells[i], cells[j])) ** 2 for j in range(6)]
            by_hand = [sum(w * v[d] for w, v in zip(weights, values, strict=True)) for d in range(4)]
            torch.testing.assert_close(found[image, :, i], torch.tensor(by_hand), atol=1e-5, rtol=1e-5)


def test_agreement_is_the_mean_cosine_of_cells_at_one_place():
    """Positives are pairs of cells whose centres in the slice are near, in units of the larger cell's diagonal."""
    maps_1, maps_2 = (draw_views(2, settings.Views(crop_size=32), 48, generator(seed)).maps for seed in (0, 1))
    cells_1, cells_2 = numbers(2, 5, 16), numbers(2, 5, 16, seed=1)
    positive = same_place(maps_1, maps_2, 32, 4, 0.7)
    for n in range(2):
        scales = [float(m[n, :, 0].norm()) for m in (maps_1, maps_2)]
        cosines = []
        for i, j in product(range(16), repeat=2):
            centres = [torch.tensor([[(k % 4 + 0.5) * 8, (k // 4 + 0.5) * 8]]).double() for k in (i, j)]
            a, b = (to_source(m[n : n + 1], c)[0, 0] for m, c in zip((maps_1, maps_2), centres, strict=True))
            near = float((a - b).norm()) / (max(scales) * 8 * 2**0.5) < 0.7
            assert bool(positive[n, i, j]) == near
            if near:
                cosines.append(cosine(columns(cells_1[n])[i], columns(cells_2[n])[j]))
        assert cosines
        ours = agreement(cells_1[n : n + 1], cells_2[n : n + 1], positive[n : n + 1])
        assert ours.item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)
    assert agreement(cells_1, cells_2, torch.zeros_like(positive)).tolist() == [0, 0]
