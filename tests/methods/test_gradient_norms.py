"""The weights of both losses, and the local gradient that is made as strong as the global one."""

import copy

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.data.stream import LocalStream
from pixelglobal.losses.consistency import mean_one
from pixelglobal.methods.gradient_norms import MATCHED_WEIGHT_RANGE, gradient_norms, matched_weight
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics
from tests.methods.test_pixel_global import BASE, a_pair, changed, method_of
from tests.support import Killed, RunKilledAfter

CPU = torch.device("cpu")


def gradient(method, config, loss_of):
    """The gradient on encoder and decoder of a function of the named losses, from a step of its own."""
    method = copy.deepcopy(method)
    loss_of(method.losses(a_pair(config), generator(3))).backward()
    backbone = method.student.backbone.parameters()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in backbone])


def test_both_losses_have_their_weights():
    config = settings.variant(changed(global_weight=0.5, local_weight=3.0), "full")
    terms = method_of(config).losses(a_pair(config), generator(0))
    torch.testing.assert_close(terms["loss"], 0.5 * terms["loss_global"] + 3 * terms["loss_pixel"])
    plain = method_of(settings.variant(BASE, "full")).losses(a_pair(config), generator(0))
    assert plain["loss"] == plain["loss_global"] + plain["loss_pixel"]  # Eq. (1)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_norms_are_those_of_two_separate_backward_passes_and_leave_the_step_as_it_is(checkpointed):
    config = settings.variant(changed(checkpoint_pixel_head=checkpointed), "full")
    method, untouched = method_of(config), method_of(config)
    by_hand = [gradient(method, config, lambda terms, n=n: terms[n]).norm() for n in ("loss_global", "loss_pixel")]
    terms = method.losses(a_pair(config), generator(3))
    found = method.before_backward(terms, step=0)
    torch.testing.assert_close(found["gradient_norm_global"], by_hand[0])
    torch.testing.assert_close(found["gradient_norm_local"], by_hand[1])
    assert by_hand[0] != by_hand[1]
    terms["loss"].backward()
    untouched.losses(a_pair(config), generator(3))["loss"].backward()
    states = [
        {**m.state_dict(), **{f"gradient of {n}": p.grad for n, p in m.student.named_parameters()}}
        for m in (method, untouched)
    ]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_matched_local_gradient_is_as_strong_as_the_global_one(share):
    config = settings.variant(changed(local_weight=share), "full_matched")
    measured, method = method_of(config), method_of(config)
    terms = measured.losses(a_pair(config), generator(3))
    torch.testing.assert_close(terms["loss"], terms["loss_global"] + share * terms["loss_pixel"])  # not yet measured
    measured.before_backward(terms, step=0)
    method.matched_weight.copy_(measured.matched_weight)
    norm_global = gradient(method, config, lambda terms: terms["loss_global"]).norm()
    norm_local = gradient(method, config, lambda terms: terms["loss"] - terms["loss_global"]).norm()
    torch.testing.assert_close(norm_local, share * norm_global, rtol=1e-3, atol=0)
    assert measured.matched_weight not in (0, 1)


def test_the_weight_is_the_smoothed_quotient_within_its_range():
    one, two, eight, zero = (torch.tensor(v) for v in (1.0, 2.0, 8.0, 0.0))
    assert matched_weight(zero, eight, two).item() == pytest.approx(4)  # the first measurement
    assert matched_weight(one, eight, two).item() == pytest.approx(4**0.3)
    for nothing in (zero, torch.tensor(torch.nan)):
        assert matched_weight(two, eight, nothing) == 2
        assert matched_weight(zero, eight, nothing) == 0
    low, high = MATCHED_WEIGHT_RANGE
    assert matched_weight(zero, torch.tensor(1e9), one).item() == pytest.approx(high)
    assert matched_weight(zero, torch.tensor(1e-9), one).item() == pytest.approx(low)


def test_a_loss_that_is_not_there_has_no_norm():
    x = torch.ones(3, requires_grad=True)
    assert gradient_norms([2 * x.sum(), None, torch.zeros(())], [x]).tolist() == [pytest.approx(12**0.5), 0, 0]


def test_a_batch_without_twins_changes_no_weight():
    config = settings.variant(BASE, "full_matched")
    method = method_of(config)
    method.matched_weight.fill_(3)
    terms = method.losses(a_pair(config), generator(0))
    del terms["loss_pixel"]
    assert method.before_backward(terms, step=25)["gradient_norm_local"] == 0
    assert method.matched_weight.item() == pytest.approx(3)


def test_normalised_certainty_weighs_pixels_and_not_images():
    weights = mean_one(torch.tensor([0.2, 0.6, 0.05, 0.05]), torch.tensor([0, 0, 2, 2]), 3)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5, 1.0, 1.0]))
    nothing_is_certain = mean_one(torch.zeros(2), torch.tensor([0, 0]), 1)
    assert torch.isfinite(nothing_is_certain).all()


def test_normalised_certainty_makes_the_loss_larger_by_its_mean():
    plain, normalised = (
        method_of(settings.variant(changed(uncertainty_normalization=n), "full")).losses(a_pair(BASE), generator(0))
        for n in ("none", "mean_one")
    )
    mean_certainty = 1 - plain["uncertainty"]
    assert normalised["loss_pixel"] > plain["loss_pixel"]
    torch.testing.assert_close(normalised["loss_pixel"] * mean_certainty, plain["loss_pixel"], rtol=0.2, atol=0)


def pretrained(config, store, run):
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=config.seed)
    return read_model(pretrain(config, store, stream, run, CPU))[0]


def test_a_matched_run_that_was_killed_goes_on_as_if_it_had_not_been(tiny, store, tmp_path):
    config = settings.with_settings(settings.variant(tiny, "full_matched"), pixel_global={"match_every_steps": 2})
    whole = pretrained(config, store, LocalRun(tmp_path / "whole"))
    with pytest.raises(Killed):
        pretrained(config, store, RunKilledAfter(tmp_path / "killed", 2))
    resumed = pretrained(config, store, LocalRun(tmp_path / "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    weights = [line["local_weight"] for line in read_metrics(tmp_path / "whole")]
    assert weights[0] == 1
    assert len(set(weights)) == 4  # before the first measurement, and after each of three
    logged = [line for line in read_metrics(tmp_path / "whole") if line.get("gradient_norm_local", 0) > 0]
    assert len(logged) == 3
