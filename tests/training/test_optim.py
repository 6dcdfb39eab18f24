"""LARS, schedules and Eq. (2), each against its definition."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from pixelglobal.config.schema import Pretrain
from pixelglobal.methods.teacher import ema_keep, follow
from pixelglobal.training.optim import pretraining_optimizer, set_learning_rate, warmup_cosine, warmup_polynomial


def test_lars_against_its_definition():
    """q = 0.001 |p| / (|g| + wd |p|) (You et al. 2017); v = 0.9 v + q (g + wd p); p -= lr v. Biases: q = 1, wd = 0.

    BYOL's code has |g + wd p| in q's denominator; with its decay of 1.5e-6 the two agree to six digits.
    """
    torch.manual_seed(0)
    layer = nn.Linear(5, 4).double()
    config = Pretrain(optimizer="lars", learning_rate=0.2, weight_decay=0.01)
    optimizer = pretraining_optimizer(layer, config)
    slow = {n: p.detach().clone() for n, p in layer.named_parameters()}
    momentum = {n: torch.zeros_like(p) for n, p in slow.items()}
    for step in range(4):
        set_learning_rate(optimizer, rate := 0.2 / (step + 1))
        gradient = {n: torch.randn_like(p) for n, p in slow.items()}
        for n, p in layer.named_parameters():
            p.grad = gradient[n].clone()
        optimizer.step()
        for n, p in slow.items():
            g = gradient[n]
            if n == "weight":
                g = (g + 0.01 * p) * (0.001 * p.norm() / (g.norm() + 0.01 * p.norm()))
            momentum[n] = 0.9 * momentum[n] + g
            slow[n] = p - rate * momentum[n]
        for n, p in layer.named_parameters():
            torch.testing.assert_close(p.detach(), slow[n], atol=1e-9, rtol=1e-6)


def test_a_decay_of_zero_does_not_turn_lars_into_sgd():
    torch.manual_seed(0)
    layer = nn.Linear(5, 4, bias=False)
    before = layer.weight.detach().clone()
    optimizer = pretraining_optimizer(layer, Pretrain(optimizer="lars", weight_decay=0.0, learning_rate=1.0))
    layer.weight.grad = torch.randn_like(layer.weight) * 100
    optimizer.step()
    assert ((layer.weight - before).norm() / before.norm()).item() == pytest.approx(0.001, rel=1e-3)


def test_warm_up_reaches_the_peak_and_the_cosine_ends_near_zero():
    rates = [warmup_cosine(s, peak=0.2, warmup_steps=10, total_steps=100) for s in range(100)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == rates[9] == pytest.approx(0.2)
    assert rates[55] == pytest.approx(0.2 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[-1] < 0.2 * 0.01
    assert warmup_cosine(0, peak=0.2, warmup_steps=0, total_steps=10) == 0.2


def test_polynomial_decay_with_and_without_a_warm_up():
    plain = {"peak": 1e-3, "power": 0.9, "warmup_steps": 0, "total_steps": 50}
    assert warmup_polynomial(0, **plain) == 1e-3
    assert warmup_polynomial(25, **plain) == pytest.approx(1e-3 * 0.5**0.9)
    assert warmup_polynomial(50, **plain) == 0
    rates = [warmup_polynomial(s, **plain | {"warmup_steps": 5}) for s in range(51)]
    assert rates[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert rates[5] == max(rates) == 1e-3
    assert rates[23] == pytest.approx(1e-3 * 0.6**0.9)
    assert rates[50] == 0


def test_ema_keep_goes_from_base_to_final():
    keeps = [ema_keep(s, base=0.996, final=1.0, total_steps=100) for s in range(101)]
    assert keeps[0] == pytest.approx(0.996)
    assert keeps[50] == pytest.approx(0.998)
    assert keeps[100] == 1.0
    assert all(b >= a for a, b in pairwise(keeps))


def test_eq_2_moves_the_teacher_and_only_the_teacher():
    student, teacher = nn.Linear(3, 2), nn.Linear(3, 2)
    s, t = copy.deepcopy(student), copy.deepcopy(teacher)
    follow(teacher.parameters(), student.parameters(), 0.9)
    torch.testing.assert_close(teacher.weight, 0.9 * t.weight + 0.1 * s.weight)
    assert torch.equal(student.weight, s.weight)
