"""U of Eq. (6): zero for a sure teacher, one for a clueless one, and the mean over passes it says it is."""

import math

import pytest
import torch

from pixelglobal.networks.uncertainty import channel_mask, entropy, monte_carlo_uncertainty
from pixelglobal.seeds import generator


def passes_from(stack):
    iterator = iter(stack)
    return lambda: next(iterator)


def test_against_loops_over_passes():
    g = torch.Generator().manual_seed(0)
    stack = torch.rand(7, 5, 4, generator=g, dtype=torch.float64)
    stack = stack / stack.sum(-1, keepdim=True)
    h = lambda row: -sum(p * math.log(p) for p in row)  # noqa: E731
    predictive = [h([sum(stack[t, m, k].item() for t in range(7)) / 7 for k in range(4)]) for m in range(5)]
    expected = [sum(h(stack[t, m].tolist()) for t in range(7)) / 7 for m in range(5)]
    information = [a - b for a, b in zip(predictive, expected, strict=True)]
    for measure, slow in {"predictive": predictive, "expected": expected, "mutual_information": information}.items():
        fast = monte_carlo_uncertainty(passes_from(stack), 7, measure)
        torch.testing.assert_close(
            fast.double(), torch.tensor(slow, dtype=torch.float64) / math.log(4), atol=1e-5, rtol=1e-4
        )


def test_the_two_ends_of_the_scale():
    sure = torch.eye(4)[[0, 1]]
    clueless = torch.full((2, 4), 0.25)
    assert monte_carlo_uncertainty(lambda: sure, 3).tolist() == [0, 0]
    assert monte_carlo_uncertainty(lambda: clueless, 3).tolist() == pytest.approx([1, 1])
    # Sure in each pass, but of something else each time: uncertain in the mean, and all of it is disagreement.
    disagreeing = passes_from([torch.eye(4)[[i]] for i in range(4)])
    assert monte_carlo_uncertainty(disagreeing, 4, "mutual_information").tolist() == pytest.approx([1])


def test_entropy_of_a_certain_distribution_is_zero_not_nan():
    assert entropy(torch.tensor([1.0, 0.0])).item() == 0


def test_no_gradient_flows():
    p = torch.full((2, 4), 0.25, requires_grad=True)
    assert not monte_carlo_uncertainty(lambda: p * 1, 2).requires_grad


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="predictive, expected, mutual_information"):
        monte_carlo_uncertainty(lambda: torch.full((2, 4), 0.25), 2, "variance")


def test_channel_masks_drop_whole_channels_and_keep_the_mean():
    mask = channel_mask(400, 50, 0.3, torch.zeros(1), generator(0))
    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert mask.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(mask, channel_mask(400, 50, 0.3, torch.zeros(1), generator(0)))
    assert not torch.equal(mask, channel_mask(400, 50, 0.3, torch.zeros(1), generator(1)))
