"""One step of the method: what it adds up, where gradients go, what dropout passes cost and change."""

import copy
from dataclasses import replace

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.losses.consistency import disagreement, targets
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.networks.branch import MatchedPixels, teacher_uncertainty
from pixelglobal.networks.heads import ProjectionHead
from pixelglobal.networks.mc_dropout import predictive_uncertainty
from pixelglobal.networks.uncertainty import channel_mask, monte_carlo_uncertainty
from pixelglobal.seeds import generator, seeded
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import ViewPlan, make_view_pair

BASE = settings.resolve("smoke", ["pixel_global.pixels_per_image=64", "pixel_global.pixel_outputs=8"])

SCALE = HuScale(-1024, 325, -300, 400)


def method_of(config, seed=0):
    return seeded(lambda: PixelGlobal(config), seed).train()


def a_pair(config, n=4, seed=0, has_partner=None):
    draws = generator(seed, "pair")
    images = torch.randint(-1000, 300, (n, 8, 8), generator=draws, dtype=torch.int16)
    images = images.repeat_interleave(8, 1).repeat_interleave(8, 2)
    partners = torch.ones(n, dtype=torch.bool) if has_partner is None else has_partner
    own = section(config)
    plan = ViewPlan(config.views, match=own.pixel_matching, pixels_per_image=own.pixels_per_image, partners=True)
    return make_view_pair(images, partners, plan, SCALE, draws)


def section(config):
    return config.methods["pixel_global"]


def changed(**values):
    return settings.with_settings(BASE, pixel_global=values)


@pytest.mark.parametrize("name", list(PixelGlobal.variants))
def test_every_variant_trains_and_the_total_is_eq_1(name):
    config = settings.variant(BASE, name)
    method = method_of(config)
    terms = method.losses(a_pair(config), generator(0))
    assert ("loss_pixel" in terms) == (name != "go")
    assert ("uncertainty" in terms) == name.startswith("full")
    torch.testing.assert_close(terms["loss"], terms["loss_global"] + terms.get("loss_pixel", torch.tensor(0.0)))
    terms["loss"].backward()
    assert method.student.backbone.encoder.conv1[0].weight.grad.abs().sum() > 0


def test_gradients_never_reach_the_teacher_and_the_two_share_no_tensor():
    method = method_of(BASE)
    method.losses(a_pair(BASE), generator(0))["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    student = {p.data_ptr() for p in method.student.parameters()}
    assert student.isdisjoint({p.data_ptr() for p in method.teacher.parameters()})
    assert all(torch.equal(a, b) for a, b in zip(method.student.parameters(), method.teacher.parameters(), strict=True))


def test_eq_2_and_its_literal_reading():
    for convention, teacher_moves in (("teacher_decay", 0.01), ("literal_eq2", 0.99)):
        method = method_of(changed(ema_convention=convention, ema_base=0.99))
        before = method.teacher.pixel_head.prototypes.clone()
        method.student.pixel_head.prototypes.data += 1
        method.after_step(0, 100)
        moved = (method.teacher.pixel_head.prototypes - before).mean()
        assert moved.item() == pytest.approx(teacher_moves, rel=1e-4)


def test_the_teacher_s_running_averages_are_refreshed_once_a_step_whatever_the_passes():
    few, many = (method_of(changed(mc_passes=n)) for n in (1, 20))
    pair = a_pair(BASE)
    for method in (few, many):
        method.losses(pair, generator(0))
    for (name, a), b in zip(few.teacher.named_buffers(), many.teacher.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_dropout_passes_after_the_shared_prefix_equal_whole_passes():
    """The same masks through the whole network, view to logits, give the same uncertainty."""
    for sites in (("decoder_out",), ("bottleneck",), ("bottleneck", "decoder_out")):
        config = changed(dropout_sites=sites)
        method, pair = method_of(config), a_pair(config)
        teacher = method.teacher
        with torch.no_grad():
            _, _, features, y_MC = copy.deepcopy(teacher)(pair.view_2, pair.image_M, pair.pixel_2_M)
            pixels = MatchedPixels(features, y_MC, pair.image_M, pair.pixel_2_M, pair.matched_B)
            how = section(config).passes
            fast = teacher_uncertainty(teacher, torch.zeros(8), pixels, how, generator(9))
            draws = generator(9)

            def whole_pass(teacher=teacher, pair=pair, draws=draws, how=how):
                masks = teacher.dropout_masks(4, how.dropout, pair.view_2, draws)
                logits = copy.deepcopy(teacher)(pair.view_2, pair.image_M, pair.pixel_2_M, masks)[1]
                return targets(logits, torch.zeros(8), how.temperature)

            slow = monte_carlo_uncertainty(whole_pass, how.passes)
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
        assert fast.std() > 0


def test_strong_features_do_not_overflow_half_precision():
    head = ProjectionHead(16, 32, 16, 8, hidden_layers=1, bn_logits=False).train()
    y_MC = 3 * torch.randn(60_000, 16, generator=generator(0))  # a sum of squares over pixels is beyond 65504
    masks = torch.stack([channel_mask(1, 16, 0.5, y_MC, generator(i)) for i in range(3)])
    inputs = (head, y_MC, [len(y_MC)], masks, torch.zeros(8), 0.04)
    with torch.autocast("cpu", dtype=torch.float16):
        half = predictive_uncertainty(*inputs)
    torch.testing.assert_close(half, predictive_uncertainty(*inputs), atol=0.02, rtol=0)


def test_the_stabiliser_takes_away_the_partner_s_disagreement():
    """loss_pixel by hand, from the logits of both halves."""
    config = settings.variant(changed(stabilizer="abs_pixel"), "gpc")
    method, pair = method_of(config), a_pair(config)
    with torch.no_grad():
        y_t = copy.deepcopy(method.teacher)(pair.view_2, pair.image_M, pair.pixel_2_M)[1]
        y_s = copy.deepcopy(method.student)(pair.view_1, pair.image_M, pair.pixel_1_M)[1]
        ce = disagreement(targets(y_t, torch.zeros(8), 0.04), y_s, 0.1)
        first, second = ce.chunk(2)
        gap = torch.cat([(first - second).abs(), (second - first).abs()])
        by_hand = torch.stack([gap[pair.image_M == i].mean() for i in range(4)]).mean()
        torch.testing.assert_close(method.losses(pair, generator(0))["loss_pixel"], by_hand)


def test_the_whole_of_eq_6_in_loops():
    """Each pair's disagreement less its partner's, as printed, weighted by 1 - U, averaged over pixels and images."""
    config = settings.variant(changed(stabilizer="abs_pixel", detach_partner=False, mc_passes=3), "full")
    method, pair, half = method_of(config), a_pair(config), 2
    teacher = copy.deepcopy(method.teacher)
    with torch.no_grad():
        _, y_t, features, y_MC = copy.deepcopy(teacher)(pair.view_2, pair.image_M, pair.pixel_2_M)
        y_s = copy.deepcopy(method.student)(pair.view_1, pair.image_M, pair.pixel_1_M)[1]
        pixels = MatchedPixels(features, y_MC, pair.image_M, pair.pixel_2_M, pair.matched_B)
        how, center = section(config).passes, torch.zeros(y_t.shape[-1])
        certainty = 1 - teacher_uncertainty(teacher, center, pixels, how, generator(4)).double()
        code = (y_t.double() / 0.04).softmax(-1)
        ce = [-float((code[m] * (y_s[m].double() / 0.1).log_softmax(-1)).sum()) for m in range(len(y_s))]
    by_image = [[m for m in range(len(ce)) if pair.image_M[m] == image] for image in range(2 * half)]
    losses = []
    for image, own in enumerate(by_image):
        partner = by_image[(image + half) % (2 * half)]
        assert [int(pair.pixel_1_M[m]) for m in own] == [int(pair.pixel_1_M[m]) for m in partner]
        weighted = [float(certainty[m]) * abs(ce[m] - ce[other]) for m, other in zip(own, partner, strict=True)]
        losses.append(sum(weighted) / len(weighted))
    assert certainty.std() > 0.05  # so that U and 1 - U differ
    ours = method.losses(pair, generator(4))["loss_pixel"].item()
    assert ours == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_equal_partners_leave_nothing():
    config = settings.variant(BASE, "gpc")
    pair = a_pair(config)
    half = len(pair.view_1) // 2
    twins = replace(pair, view_1=pair.view_1[:half].repeat(2, 1, 1, 1), view_2=pair.view_2[:half].repeat(2, 1, 1, 1))
    assert method_of(config).losses(twins, generator(0))["loss_pixel"].item() == pytest.approx(0, abs=1e-6)


def test_an_image_whose_partner_is_the_same_patient_enters_no_stabilised_loss():
    config = settings.variant(BASE, "gpc")
    nobody = a_pair(config, has_partner=torch.zeros(4, dtype=torch.bool))
    terms = method_of(config).losses(nobody, generator(0))
    assert terms["loss_pixel"].item() == 0
    assert terms["images_without_partner"] == 4  # as the log says
    plain = settings.variant(BASE, "gp")
    nobody = a_pair(plain, has_partner=torch.zeros(4, dtype=torch.bool))
    assert method_of(plain).losses(nobody, generator(0))["loss_pixel"].item() > 0
    assert (method_of(config).fewest_patients, method_of(plain).fewest_patients) == (2, 1)


def test_paired_and_independent_partners_have_the_same_expected_loss():
    """On fixed weights and statistics, over all partners that four patients can have under the same views."""
    images = torch.randint(-1000, 300, (4, 8, 8), generator=generator(0, "four"), dtype=torch.int16)
    images = images.repeat_interleave(8, 1).repeat_interleave(8, 2)
    means = {}
    for partner in ("paired", "independent"):
        config = settings.variant(changed(partner=partner, collapse_guard="none"), "gpc")
        method, losses = method_of(config).eval(), []
        for i in range(4):
            for j in range(4):
                if i == j:
                    continue
                plan = ViewPlan(config.views, match=True, pixels_per_image=64, partners=True)
                both = torch.tensor([True, True])
                pair = make_view_pair(images[[i, j]], both, plan, SCALE, generator(1, "views"))
                losses.append(method.losses(pair, generator(0))["loss"].detach())
        means[partner] = torch.stack(losses)
    torch.testing.assert_close(means["paired"].mean(), means["independent"].mean())
    assert (means["paired"] - means["independent"]).abs().max() > 1e-4  # not because each batch has the same loss


def test_slices_without_twins_are_counted_and_enter_nothing():
    config = settings.variant(changed(collapse_guard="center"), "gp")
    pair = a_pair(config)
    seen = pair.image_M % 2 == 1  # images 0 and 2 lose theirs
    matched_B = tuple(count * (i % 2) for i, count in enumerate(pair.matched_B))
    part = replace(
        pair, image_M=pair.image_M[seen], pixel_1_M=pair.pixel_1_M[seen], pixel_2_M=pair.pixel_2_M[seen],
        matched_B=matched_B,
    )  # fmt: skip
    method = method_of(config)
    terms = method.losses(part, generator(0))
    with torch.no_grad():
        logits_t = method_of(config).teacher(pair.view_2, part.image_M, part.pixel_2_M)[1]
        logits_s = method_of(config).student(pair.view_1, part.image_M, part.pixel_1_M)[1]
    gap = disagreement(targets(logits_t, torch.zeros(8), 0.04), logits_s, 0.1)
    by_hand = (gap[part.image_M == 1].mean() + gap[part.image_M == 3].mean()) / 2
    torch.testing.assert_close(terms["loss_pixel"], by_hand)
    assert terms["images_without_twins"] == 2
    torch.testing.assert_close(method.center_pixel, 0.1 * logits_t.mean(0))


def test_a_detached_partner_gets_no_gradient():
    """With hinge and detach, images that disagree less than their partner do not move the network at all."""
    config = settings.variant(changed(detach_partner=True, partner="independent"), "gpc")
    method, pair = method_of(config), a_pair(config)
    x = pair.view_1.clone().requires_grad_()
    method.losses(replace(pair, view_1=x), generator(0))["loss_pixel"].backward()
    own, partner = x.grad[:2].abs().sum(), x.grad[2:].abs().sum()
    attached = settings.with_settings(config, pixel_global={"detach_partner": False})
    method, y = method_of(attached), pair.view_1.clone().requires_grad_()
    method.losses(replace(pair, view_1=y), generator(0))["loss_pixel"].backward()
    # Batch statistics tie all images together a little; the direct path must be what differs.
    assert partner < 0.5 * y.grad[2:].abs().sum()
    assert own > 0


def test_centres_move_after_use_and_only_when_asked():
    pair = a_pair(BASE)
    guarded, free = method_of(BASE), method_of(changed(collapse_guard="none"))
    first, second = guarded.losses(pair, generator(0)), free.losses(pair, generator(0))
    torch.testing.assert_close(first["loss"], second["loss"])  # the centre starts at zero
    assert guarded.center_pixel.abs().sum() > 0
    assert free.center_pixel.abs().sum() == 0
    with torch.no_grad():
        logits = method_of(BASE).teacher(pair.view_2, pair.image_M, pair.pixel_2_M)[1]
    torch.testing.assert_close(guarded.center_pixel, 0.1 * logits.mean(0))


def test_both_centres_are_of_the_teacher_s_logits():
    """A teacher that differs from its student tells whose logits move the centres."""
    method, pair = method_of(BASE), a_pair(BASE)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(7)))
        z_t, y_t, _, _ = copy.deepcopy(method.teacher)(pair.view_2, pair.image_M, pair.pixel_2_M)
        z_s = copy.deepcopy(method.student)(pair.view_1, pair.image_M, pair.pixel_1_M)[0]
    method.losses(pair, generator(0))
    torch.testing.assert_close(method.center_global, 0.1 * z_t.mean(0))
    torch.testing.assert_close(method.center_pixel, 0.1 * y_t.mean(0))
    assert (z_t.mean(0) - z_s.mean(0)).abs().max() > 1e-3


def test_symmetric_is_the_mean_of_both_directions():
    config = settings.variant(changed(collapse_guard="none"), "gp")
    both = settings.with_settings(config, pixel_global={"symmetric": True})
    pair = a_pair(config)
    back = replace(pair, view_1=pair.view_2, view_2=pair.view_1, pixel_1_M=pair.pixel_2_M, pixel_2_M=pair.pixel_1_M)
    there, here = (method_of(config).losses(p, generator(0))["loss"] for p in (pair, back))
    torch.testing.assert_close(method_of(both).losses(pair, generator(0))["loss"], (there + here) / 2)


def test_dropout_masks_follow_the_generator():
    method, pair = method_of(BASE), a_pair(BASE)
    a, b, c = (copy.deepcopy(method).losses(pair, generator(s))["uncertainty"] for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_a_checkpointed_pixel_head_gives_the_same_step():
    pair, states = a_pair(BASE), []
    for on in (False, True):
        method = method_of(changed(checkpoint_pixel_head=on))
        method.losses(pair, generator(0))["loss"].backward()
        gradients = {f"gradient of {name}": p.grad for name, p in method.student.named_parameters()}
        states.append({**method.state_dict(), **gradients})  # with running averages and how often they were refreshed
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_bf16_agrees_with_fp32():
    pair = a_pair(BASE)
    exact = method_of(BASE).losses(pair, generator(0))
    with torch.autocast("cpu", torch.bfloat16):
        rough = method_of(BASE).losses(pair, generator(0))
    for name in ("loss_global", "cross_entropy_pixel", "uncertainty"):
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name], exact[name], atol=0.05, rtol=0.05)


def test_hard_certainty_keeps_the_pixels_below_the_threshold():
    """The mean over what is kept of each image, by loops; a soft weight would count all of them."""
    config = changed(certainty="hard", uncertainty_threshold=0.5, stabilizer="off")
    pair, g = a_pair(config), generator(7)
    ce_M, u_M = (torch.rand(len(pair.image_M), generator=g) for _ in range(2))
    terms = method_of(config)._local_terms(ce_M, u_M, pair, 4)
    kept = [
        [ce.item() for ce, u, i in zip(ce_M, u_M, pair.image_M, strict=True) if i == n and u < 0.5] for n in range(4)
    ]
    assert terms["loss_pixel"].item() == pytest.approx(sum(sum(k) / len(k) for k in kept) / 4, abs=1e-5)
    soft = method_of(changed(stabilizer="off"))._local_terms(ce_M, u_M, pair, 4)
    assert abs(soft["loss_pixel"] - terms["loss_pixel"]) > 0.01
