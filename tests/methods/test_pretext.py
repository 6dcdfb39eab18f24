"""Rotation, jigsaw and context restoration: what is asked is right, and a short training learns to answer."""

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.methods.context_restoration import swap_blocks
from pixelglobal.methods.jigsaw import distant_permutations, tiles_of
from pixelglobal.seeds import generator
from tests.methods.test_methods import a_pair, built, of
from tests.methods.test_restore import losses_before_and_after


class Told:
    """A student that notes what it sees and gives fixed scores."""

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, inputs):
        self.seen = inputs
        return self.scores


def test_rotation_asks_for_the_quarter_turns_of_upright_views(tiny):
    config = settings.with_settings(of(tiny, "rotation"), pretrain={"flips": True})
    method = built(config)
    pair = a_pair(method, n=16)
    assert (pair.maps_1[:, 0, 1] == 0).all()
    assert (pair.maps_1[:, 1, 1] > 0).all()
    scores = torch.randn(64, 4, generator=generator(0))
    method.run_student = told = Told(scores)
    loss = method.losses(pair, generator(0))["loss"]
    by_hand = []
    for i, seen in enumerate(told.seen):
        turns = next(k for k in range(4) if torch.equal(torch.rot90(seen, -k, (1, 2)), pair.view_1[i % 16]))
        by_hand.append(-scores[i].log_softmax(0)[turns])
    assert {round(float(s), 3) for s in by_hand} != {round(float(by_hand[0]), 3)}
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


def test_jigsaw_s_permutations_are_far_from_each_other_and_always_the_same():
    chosen = distant_permutations(50)
    assert torch.equal(chosen, distant_permutations(50))
    assert (chosen.sort(1).values == torch.arange(9)).all()
    distance = (chosen[:, None] != chosen).sum(2) + 9 * torch.eye(50)
    random = torch.rand(50, 9, generator=generator(0)).argsort(1)
    assert distance.min() >= 6 > ((random[:, None] != random).sum(2) + 9 * torch.eye(50)).min()


def test_jigsaw_asks_for_the_permutation_of_the_tiles(tiny):
    method = built(of(tiny, "jigsaw"))
    pair = a_pair(method)
    scores = torch.randn(8, 10, generator=generator(0))
    method.run_student = told = Told(scores)
    loss = method.losses(pair, generator(3))["loss"]
    tiles = tiles_of(pair.view_1, generator(3))
    by_hand = []
    for i in range(8):
        order = [next(j for j in range(9) if torch.equal(told.seen[i, k], tiles[i, j])) for k in range(9)]
        by_hand.append(-scores[i].log_softmax(0)[method.permutations.tolist().index(order)])
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


def test_tiles_lie_in_their_cells_and_have_no_intensity_of_their_own():
    x = torch.arange(30.0).expand(1, 1, 30, 30) ** 2 + torch.arange(30.0)[:, None]
    tiles = tiles_of(x, generator(0))
    assert tiles.shape == (1, 9, 1, 9, 9)
    torch.testing.assert_close(tiles.mean((2, 3, 4)), torch.zeros(1, 9), atol=1e-4, rtol=0)
    torch.testing.assert_close(tiles.std((2, 3, 4)), torch.ones(1, 9), atol=1e-2, rtol=0)
    places = {tuple(tiles_of(x, generator(seed)).flatten().tolist()) for seed in range(8)}
    assert len(places) > 1


def test_pairs_of_blocks_change_places_and_nothing_else_does():
    views = torch.randn(4, 1, 32, 32, generator=generator(0))
    swapped = swap_blocks(views, 8, 3, generator(1))

    def blocks(v):
        return [v[:, r : r + 8, c : c + 8] for r in range(0, 32, 8) for c in range(0, 32, 8)]

    moves = []
    for before, after in zip(views, swapped, strict=True):
        old = blocks(before)
        order = [next(j for j in range(16) if torch.equal(block, old[j])) for block in blocks(after)]
        moved = [i for i in range(16) if order[i] != i]
        assert len(moved) == 6
        assert all(order[order[i]] == i for i in moved)
        moves.append(tuple(order))
    assert len(set(moves)) == 4


def test_too_many_swaps_are_refused(tiny):
    with pytest.raises(ValueError, match=r"context_restoration\.swaps=9: a view has 16 blocks of 8 pixels.* at most 8"):
        built(of(tiny, "context_restoration", {"swaps": 9}))


@pytest.mark.parametrize(("name", "factor"), [("rotation", 0.6), ("jigsaw", 0.9), ("context_restoration", 0.5)])
def test_a_short_training_learns_the_answer(tiny, store, name, factor):
    before, after = losses_before_and_after(of(tiny, name), store)
    assert after["loss"] < factor * before["loss"], (before, after)
