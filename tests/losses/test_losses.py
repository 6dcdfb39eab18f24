"""Eqs. (3) to (6) against the sums as printed, in plain loops and float64."""

import math
from itertools import product

import pytest
import torch

from pixelglobal.losses.consistency import disagreement, global_loss, local_loss, targets
from pixelglobal.losses.segmentation import marginal_log_probabilities, segmentation_loss

B, K = 3, 5
COUNTS = [4, 0, 6]  # matched pairs of each image; the second has none
IMAGE = torch.tensor([b for b, n in enumerate(COUNTS) for _ in range(n)])
M = len(IMAGE)
TAU_S, TAU_T = 0.1, 0.04


@pytest.fixture
def numbers():
    g = torch.Generator().manual_seed(0)
    logits = [torch.rand(M, K, generator=g, dtype=torch.float64) * 0.4 for _ in range(4)]
    center = torch.rand(K, generator=g, dtype=torch.float64) * 0.1
    certainty = torch.rand(M, generator=g, dtype=torch.float64)
    return (*logits, center, certainty)


def softmax(row):
    top = max(row)
    e = [math.exp(v - top) for v in row]
    return [v / sum(e) for v in e]


def slow_cross_entropy(teacher, student, center):
    y_t = softmax([(v - c) / TAU_T for v, c in zip(teacher.tolist(), center.tolist(), strict=True)])
    y_s = softmax([v / TAU_S for v in student.tolist()])
    return sum(-t * math.log(s) for t, s in zip(y_t, y_s, strict=True))


def slow_eq_3(teacher, student, center):
    return sum(slow_cross_entropy(t, s, center) for t, s in zip(teacher, student, strict=True)) / len(teacher)


def test_eq_3_against_the_sum_as_printed(numbers):
    teacher, student, *_, center, _ = numbers
    fast = global_loss(targets(teacher, center, TAU_T), student, TAU_S)
    assert fast.item() == pytest.approx(slow_eq_3(teacher, student, center), abs=1e-5)


@pytest.mark.parametrize(
    ("form", "weighted", "reduction"),
    list(product(["off", "abs_image", "abs_pixel", "hinge"], [False, True], ["sum", "mean"])),
)
def test_eqs_4_5_6_against_the_sums_as_printed(numbers, form, weighted, reduction):
    teacher, student, teacher_2, student_2, center, certainty = numbers
    totals = []
    for b in range(B):
        inner = 0.0
        for i in (b == IMAGE).nonzero().flatten().tolist():
            here = slow_cross_entropy(teacher[i], student[i], center)
            context = slow_cross_entropy(teacher_2[i], student_2[i], center)
            weight = certainty[i].item() if weighted else 1.0
            value = {
                "off": here,
                "abs_image": here - context,
                "abs_pixel": abs(here - context),
                "hinge": max(0.0, here - context),
            }[form]
            inner += weight * value
        if form == "abs_image":
            inner = abs(inner)
        if COUNTS[b]:
            totals.append(inner / COUNTS[b] if reduction == "mean" else inner)
    expected = sum(totals) / len(totals)

    ce = disagreement(targets(teacher, center, TAU_T), student, TAU_S)
    partner = disagreement(targets(teacher_2, center, TAU_T), student_2, TAU_S)
    fast = local_loss(ce, partner, certainty if weighted else None, IMAGE, B, stabilizer=form, reduction=reduction)
    assert fast.item() == pytest.approx(expected, rel=1e-5)


def test_a_constant_network_has_no_loss_as_printed_but_hinge_and_eq_4_see_it():
    """Eqs. (5) and (6) are at their minimum for any constant output: the reason to look at the cross-entropy."""
    same = torch.full((M,), 2.0, dtype=torch.float64)
    losses = {
        form: local_loss(same, same, None, IMAGE, B, stabilizer=form, reduction="mean").item()
        for form in ("abs_pixel", "abs_image", "off")
    }
    assert losses == {"abs_pixel": 0.0, "abs_image": 0.0, "off": 2.0}
    # The hinge is zero there too, but raising the disagreement above the partner's never lowers it.
    worse = local_loss(same + 1, same, None, IMAGE, B, stabilizer="hinge", reduction="mean")
    assert worse.item() == 1.0


def test_no_matched_pair_costs_nothing():
    none = torch.zeros(0, dtype=torch.float64)
    loss = local_loss(none, none, None, torch.zeros(0, dtype=torch.long), B, stabilizer="hinge", reduction="mean")
    assert loss.item() == 0.0


def test_gradient_of_the_cross_entropy_is_the_closed_form(numbers):
    teacher, student, *_, center, _ = numbers
    student = student.clone().requires_grad_()
    target = targets(teacher, center, TAU_T)
    disagreement(target, student, TAU_S).sum().backward()
    expected = (torch.softmax(student.detach() / TAU_S, -1) - target) / TAU_S
    torch.testing.assert_close(student.grad, expected.to(student.grad.dtype), atol=1e-4, rtol=1e-4)


def test_half_precision_inputs_are_reduced_in_fp32(numbers):
    teacher, student, *_, center, _ = numbers
    half = disagreement(targets(teacher.bfloat16(), center.float(), TAU_T), student.bfloat16(), TAU_S)
    assert half.dtype == torch.float32
    exact = disagreement(targets(teacher.bfloat16().double(), center, TAU_T), student.bfloat16().double(), TAU_S)
    torch.testing.assert_close(half, exact.float(), atol=1e-4, rtol=1e-4)


def test_what_was_not_contoured_counts_as_background():
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 3, 3, generator=g)
    contoured = torch.tensor([[True, True, True, True], [True, True, False, True]])
    p = logits.softmax(1)
    marginal = marginal_log_probabilities(logits, contoured).exp()
    torch.testing.assert_close(marginal[0], p[0])
    torch.testing.assert_close(marginal[1, 0], p[1, 0] + p[1, 2])
    assert (marginal[1, 2] == 0).all()
    torch.testing.assert_close(marginal.sum(1), torch.ones(2, 3, 3))


def test_a_prediction_where_nobody_contoured_is_not_punished():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 2] = 20.0  # sure of structure 2 everywhere
    seen = segmentation_loss(logits, labels, torch.tensor([[True, True, True]]), 0.0)
    unseen = segmentation_loss(logits, labels, torch.tensor([[True, True, False]]), 0.0)
    assert seen.item() > 15
    assert unseen.item() < 1e-3


def test_segmentation_loss_against_loops():
    g = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4, 4), generator=g)
    contoured = torch.ones(2, 3, dtype=torch.bool)
    p = logits.softmax(1)
    cross_entropy = (
        -sum(math.log(p[b, labels[b, i, j], i, j]) for b, i, j in product(range(2), range(4), range(4))) / 32
    )
    dice = []
    for c in (1, 2):
        overlap = sum(
            p[b, c, i, j].item() * (labels[b, i, j] == c).item() for b, i, j in product(range(2), range(4), range(4))
        )
        size = p[:, c].sum().item() + (labels == c).sum().item()
        dice.append(1 - (2 * overlap + 1e-5) / (size + 1e-5))
    expected = 0.5 * cross_entropy + 0.5 * sum(dice) / 2
    assert segmentation_loss(logits, labels, contoured, 0.5).item() == pytest.approx(expected, rel=1e-5)
