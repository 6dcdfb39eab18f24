"""Restoration: what is hidden, what is asked for, and that a short training fills gaps better than a constant would."""

from dataclasses import replace

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.data.stream import LocalStream
from pixelglobal.losses.restoration import masked_l1
from pixelglobal.methods.restore import hidden_blocks, positions_of
from pixelglobal.seeds import generator
from pixelglobal.training.optim import pretraining_optimizer
from pixelglobal.training.pretrain import hu_scale, views_of
from pixelglobal.views.anatomy import anatomy_of, body_frame, body_mask
from pixelglobal.views.geometry import view_map
from tests.methods.test_methods import CPU, a_pair, built, of


def test_the_loss_is_the_mean_error_of_what_counts():
    draws = generator(0)
    prediction, target = (torch.randn(2, 3, 4, 5, generator=draws) for _ in range(2))
    counts = torch.rand(2, 1, 4, 5, generator=draws) > 0.6
    errors = [
        abs(prediction[b, c, y, x].item() - target[b, c, y, x].item())
        for b in range(2) for c in range(3) for y in range(4) for x in range(5) if counts[b, 0, y, x]
    ]  # fmt: skip
    assert masked_l1(prediction, target, counts).item() == pytest.approx(sum(errors) / len(errors))
    assert masked_l1(prediction, target, torch.zeros_like(counts)).item() == 0


def test_whole_blocks_are_hidden_and_so_many_of_each_view():
    hidden = hidden_blocks(16, 64, 8, 0.6, generator(0))
    blocks = hidden.view(16, 8, 8, 8, 8).float().mean((2, 4))  # rows and columns of blocks
    assert set(blocks.flatten().tolist()) == {0.0, 1.0}
    assert set(blocks.sum((1, 2)).tolist()) == {38.0}
    assert (blocks.mean(0) > 0).all()  # any block may be hidden
    assert (blocks.mean(0) < 1).all()


def test_the_network_sees_nothing_of_what_is_hidden_and_is_asked_for_clean_hu(tiny):
    """Other intensities under the hidden blocks change the target and not the prediction."""
    method = built(of(tiny, "restore", {"noise": 0.0})).eval()
    pair = a_pair(method)
    hidden = hidden_blocks(8, pair.side, 8, 0.6, generator(1))
    changed = replace(pair, view_1=torch.where(hidden, pair.view_1 + 5, pair.view_1))
    seen = [method.losses(p, generator(1))["loss"] for p in (pair, changed)]
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    other = replace(pair, anatomy_1=replace(pair.anatomy_1, hu=pair.anatomy_1.hu + 250 * hidden))
    assert abs(method.losses(other, generator(1))["loss"] - seen[0]) > 0.1
    shown = replace(pair, anatomy_1=replace(pair.anatomy_1, hu=pair.anatomy_1.hu + 250 * ~hidden))
    torch.testing.assert_close(method.losses(shown, generator(1))["loss"], seen[0], rtol=0, atol=0)
    nowhere = replace(pair, anatomy_1=replace(pair.anatomy_1, body=torch.zeros_like(pair.anatomy_1.body)))
    assert method.losses(nowhere, generator(1))["loss"].item() == 0


def test_the_anatomy_of_a_view_is_the_slice_without_contrast_and_gamma(tiny):
    method = built(of(tiny, "restore"))
    plain = settings.with_settings(tiny, views={"contrast_probability": 0, "gamma_probability": 0})
    pair = a_pair(built(of(plain, "restore")))
    torch.testing.assert_close((pair.anatomy_1.hu + 300) / 400, pair.view_1, atol=1e-4, rtol=0)
    pair = a_pair(method)
    assert ((pair.anatomy_1.hu + 300) / 400 - pair.view_1).abs().mean() > 0.05


def test_positions_are_those_of_the_body_wherever_it_lies_and_however_large_it_is():
    """The same body, moved and twice as wide, has the same position at the same place of it."""
    images = torch.full((2, 40, 40), -1000, dtype=torch.int16)
    images[0, 10:18, 4:12] = 40
    images[1, 20:28, 10:26] = 40
    images[1, 22:24, 14:18] = -900  # a lung
    body = body_mask(images)
    assert body.sum((1, 2)).tolist() == [64, 128]
    mean, deviation = body_frame(body)
    torch.testing.assert_close(mean, torch.tensor([[8.0, 14.0], [18.0, 24.0]], dtype=torch.float64))
    torch.testing.assert_close(
        deviation[1] / deviation[0], torch.tensor([2.0, 1.0], dtype=torch.float64), rtol=0.01, atol=0
    )
    on = torch.zeros(2, dtype=torch.bool)
    maps = view_map(mean + torch.tensor([0.0, 2.0]), torch.ones(2).double(), torch.zeros(2).double(), on, on, 32)
    anatomy = anatomy_of(images, maps, 32, -1024, 325)
    middle = anatomy.position[:, :, 15:17, 15:17].mean((2, 3))
    torch.testing.assert_close(middle[:, 0], torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(middle[:, 1], (2 / deviation[:, 1]).float())
    assert anatomy.body.sum((1, 2, 3)).tolist() == [64, 128]
    empty = torch.full((1, 8, 8), -1000, dtype=torch.int16)
    assert not body_mask(empty).any()
    assert all(torch.isfinite(value).all() for value in body_frame(body_mask(empty)))


def test_the_third_position_is_the_depth_of_the_slice(tiny):
    pair = a_pair(built(of(tiny, "restore")))
    depth = positions_of(pair)[:, 2]
    assert (depth == depth[:, :1, :1]).all()
    torch.testing.assert_close(depth[:, 0, 0], (pair.depth_B - 0.5) * 12**0.5)


def test_the_paper_s_losses_start_from_what_was_restored(tiny):
    """The first half moves student and teacher as one, the second as the paper's method does."""
    method = built(of(tiny, "restore_full"))
    both = settings.with_settings(of(tiny, "restore_full"), restore_full={"local_gradient": "matched"})
    assert set(method.losses(a_pair(method, 0), generator(0))) >= {"loss_restoration", "loss_position"}
    assert method.measures(a_pair(method, 0), generator(0)) == {}
    assert {"loss_global", "loss_pixel"} <= set(method.losses(a_pair(method, 1), generator(0)))
    assert set(method.measures(a_pair(method, 1), generator(0))) == {"global", "pixel"}
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1)
    method.after_step(4, 10)
    assert all(torch.equal(t, s) for t, s in zip(method.teacher.parameters(), method.student.parameters(), strict=True))
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1)
    method.after_step(5, 10)
    moved = [(s - t).mean() for t, s in zip(method.teacher.parameters(), method.student.parameters(), strict=True)]
    assert all(0.9 < far < 1 for far in moved)
    assert both.methods["restore_full"].local_gradient == "matched"
    names = built(both).exported()
    assert {"student.encoder", "student.decoder", "student.heads", "teacher.encoder"} <= set(names)


def losses_before_and_after(config, store, epochs=25):
    """The losses of a method on slices in new views, before and after a short training."""
    config = settings.with_settings(config, pretrain={"batch_size": 16, "learning_rate": 3e-3})
    method, scale = built(config), hu_scale(config, store)
    optimizer = pretraining_optimizer(method.trainable(), config.pretrain)
    stream = LocalStream(store, store.splits.pretrain, batch_size=16, seed=0)
    steps = epochs * (stream.n_slices // 16)
    fresh = views_of(next(stream.batches(4 * steps)), method, 0, scale, CPU, generator(9))
    before = method.losses(fresh, generator(9))
    for step, batch in zip(range(steps), stream.batches(0), strict=False):
        draws = generator(0, step)
        optimizer.zero_grad()
        method.losses(views_of(batch, method, 0, scale, CPU, draws), draws)["loss"].backward()
        optimizer.step()
    return before, method.losses(fresh, generator(9)) | {"pair": fresh}


def test_a_short_training_fills_gaps_better_than_the_best_constant(tiny, store):
    before, after = losses_before_and_after(of(tiny, "restore"), store)
    anatomy = after.pop("pair").anatomy_1
    hu = anatomy.hu[anatomy.body]
    constant = (hu - hu.median()).abs().mean()
    assert after["error_hu"] < 0.8 * constant < before["error_hu"], (before, after, constant)
    assert after["loss_position"] < 0.75 * before["loss_position"]
