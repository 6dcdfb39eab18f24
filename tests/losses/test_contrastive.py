"""The contrastive losses against their definitions in plain loops, and NT-Xent against lightly's."""

import math
from itertools import product

import pytest
import torch

from pixelglobal.losses import contrastive
from pixelglobal.losses.contrastive import (
    NEAR_NEGATIVES,
    lattice_windows,
    nt_xent,
    pairs_of_partitions,
    pairs_of_views,
    partition_of,
    regional_contrast,
)

TAU = 0.1


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def slow_l(anchor, positive, negatives):
    """l(a, b) of a pair, term by term."""
    top = math.exp(cosine(anchor, positive) / TAU)
    return -math.log(top / (top + sum(math.exp(cosine(anchor, n) / TAU) for n in negatives)))


def slow_global(views, variant, partition, volume):
    """GL's global loss: views[v][i] is view v of slice i; every pair of positives in both directions."""
    n, losses = len(partition), []
    everyone = list(product(range(2), range(n)))

    def negatives_of(v, i):
        if variant == "random":
            return [views[w][j] for w, j in everyone if j != i]
        return [views[w][j] for w, j in everyone if partition[j] != partition[i]]

    pairs = [((0, i), (1, i)) for i in range(n)]
    if variant == "partition":
        pairs += [
            ((v, i), (v, j))
            for v, i, j in product(range(2), range(n), range(n))
            if i < j and partition[i] == partition[j] and volume[i] != volume[j]
        ]
    for (v, i), (w, j) in pairs:
        losses.append(slow_l(views[v][i], views[w][j], negatives_of(v, i)))
        losses.append(slow_l(views[w][j], views[v][i], negatives_of(w, j)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("variant", ["random", "partition_negatives", "partition"])
def test_global_loss_against_the_definition(variant):
    partition, volume = [0, 1, 0, 2, 1, 0], [0, 0, 1, 1, 1, 1]  # slice 5: partition and volume of slice 2
    vectors = numbers(12, 4)
    views = [vectors[:6].tolist(), vectors[6:].tolist()]
    if variant == "random":
        positive, negative = pairs_of_views(6, vectors.device)
    else:
        parts = torch.tensor(partition), torch.tensor(volume)
        positive, negative = pairs_of_partitions(*parts, match=variant == "partition")
    fast = nt_xent(vectors, positive, negative, TAU)
    assert fast.item() == pytest.approx(slow_global(views, variant, partition, volume), abs=1e-5)


def test_a_batch_of_one_partition_has_no_negatives_and_no_nan():
    vectors = numbers(8, 4).requires_grad_()
    pairs = pairs_of_partitions(torch.zeros(4, dtype=torch.long), torch.arange(4), match=False)
    loss = nt_xent(vectors, *pairs, TAU)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


def test_partitions_are_equal_parts_of_the_scan():
    depth = (torch.arange(8) + 0.5) / 8
    assert partition_of(depth, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_nt_xent_is_lightly_s():
    loss = pytest.importorskip("lightly.loss", reason="lightly comes with the extra: pip install '.[bench]'")
    one, two = numbers(5, 8, seed=1).float(), numbers(5, 8, seed=2).float()
    ours = nt_xent(torch.cat([one, two]), *pairs_of_views(5, one.device), 0.3)
    assert ours.item() == pytest.approx(loss.NTXentLoss(temperature=0.3)(one, two).item(), abs=1e-5)


def slow_window(image, place, side):
    """The 3 x 3 window of one map [C, S, S] at (row, column) in quarters of S - 4."""
    row, column = (math.floor(k * (side - 4) / 4) for k in place)
    return image[:, row : row + 3, column : column + 3]


@pytest.mark.parametrize("side", [8, 13, 48, 56])
def test_windows_lie_where_the_authors_put_them(side):
    maps = numbers(2, 3, side, side)
    windows = lattice_windows(maps)
    assert windows.shape == (2, 25, 3, 3, 3)
    for n, row, column in product(range(2), range(5), range(5)):
        assert torch.equal(windows[n, row * 5 + column], slow_window(maps[n], (row, column), side))
    assert [int(i * (48 - 4) // 4) for i in range(5)] == [0, 11, 22, 33, 44]


def test_a_map_too_small_for_regions_is_refused():
    with pytest.raises(ValueError, match=r"map is 4 x 4; GL's regions need at least 8 x 8"):
        lattice_windows(numbers(1, 1, 4, 4))


def test_every_anchor_has_five_negatives_that_are_no_neighbours():
    """Never itself, never one step of the lattice along an axis; the four quarter regions are anchors too."""
    assert len(NEAR_NEGATIVES) == 13
    assert set(NEAR_NEGATIVES) == set(product((0, 2, 4), repeat=2)) | set(product((1, 3), repeat=2))
    for (row, column), near in NEAR_NEGATIVES.items():
        assert len(set(near)) == 5
        assert all(abs(row - r) + abs(column - c) >= 2 for r, c in near)


@pytest.mark.parametrize("hidden_places", [(), ((0, 0), (2, 2), (1, 3))])
def test_local_loss_against_the_definition(hidden_places):
    """One image, all 13 regions and their ten negatives by hand; a region that view 2 does not show is in nothing."""
    one, two = numbers(1, 25, 6, seed=3), numbers(1, 25, 6, seed=4)
    seen = torch.ones(1, 25, dtype=torch.bool)
    for row, column in hidden_places:
        seen[0, row * 5 + column] = False
    at = {(r, c): r * 5 + c for r, c in product(range(5), repeat=2)}
    first, second = ({p: m[0, i].tolist() for p, i in at.items()} for m in (one, two))
    losses = []
    for place, near in NEAR_NEGATIVES.items():
        if place in hidden_places:
            continue
        negatives = [first[p] for p in near] + [second[p] for p in near if p not in hidden_places]
        there, back = (slow_l(a[place], b[place], negatives) for a, b in ((first, second), (second, first)))
        losses.append((there + back) / 2)
    fast = regional_contrast(one, two, seen if hidden_places else None, TAU)
    assert fast.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_images_do_not_meet_in_the_local_loss():
    one, two = numbers(2, 25, 6, seed=5), numbers(2, 25, 6, seed=6)
    alone = [regional_contrast(one[i : i + 1], two[i : i + 1], None, TAU) for i in range(2)]
    torch.testing.assert_close(regional_contrast(one, two, None, TAU), (alone[0] + alone[1]) / 2)
    nothing = torch.zeros(2, 25, dtype=torch.bool)
    assert regional_contrast(one, two, nothing, TAU).item() == 0


def test_half_precision_is_reduced_in_fp32():
    vectors = numbers(8, 16).bfloat16()
    pairs = pairs_of_views(4, vectors.device)
    assert nt_xent(vectors, *pairs, TAU).dtype == torch.float32
    torch.testing.assert_close(nt_xent(vectors, *pairs, TAU), nt_xent(vectors.float(), *pairs, TAU))
    assert contrastive.EXCLUDED < -1e6


def test_cosines_stay_in_fp32_under_mixed_precision():
    vectors, one, two = numbers(8, 16), numbers(2, 25, 6, seed=5), numbers(2, 25, 6, seed=6)
    pairs = pairs_of_views(4, vectors.device)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = nt_xent(vectors, *pairs, TAU), regional_contrast(one, two, None, TAU)
    torch.testing.assert_close(mixed, (nt_xent(vectors, *pairs, TAU), regional_contrast(one, two, None, TAU)))
