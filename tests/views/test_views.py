"""Views: what is drawn, what is rendered, who is whose partner."""

import numpy as np
import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.seeds import generator
from pixelglobal.views.augment import ViewDraw, draw_views, draw_whole_slices, mirror_labels, render, render_labels
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import ViewPlan, make_view_pair, matched_pixels, pair_partners

PLAIN = settings.Views(
    crop_size=32,
    crop_scale_min=1.0,
    crop_scale_max=1.0,
    rotation_probability=0,
    flip_horizontal_probability=0,
    flip_vertical_probability=0,
    contrast_probability=0,
    gamma_probability=0,
)
STILL = {
    "scale_min": 1.0,
    "scale_max": 1.0,
    "translation_fraction": 0,
    "rotation_probability": 0,
    "flip_horizontal_probability": 0,
    "contrast_probability": 0,
    "gamma_probability": 0,
}
WHOLE = settings.Finetune(**STILL)
FULL = settings.Views(crop_size=32)
SCALE = HuScale(-1024, 325, -300.0, 400.0)


def slices(n=4, size=48, seed=0):
    g = generator(seed, "test images")
    return torch.randint(-1024, 326, (n, size, size), generator=g, dtype=torch.int16)


def test_without_random_changes_a_view_is_a_z_scored_crop():
    images = slices()
    draw = draw_views(4, PLAIN, 48, generator(0))
    view = render(images, draw, 32, SCALE)
    for i in range(4):
        x, y = (draw.maps[i, :, 2]).tolist()
        if x == round(x) and y == round(y):  # only whole-pixel shifts are exact crops
            crop = images[i, int(y) : int(y) + 32, int(x) : int(x) + 32].float()
            torch.testing.assert_close(view[i, 0], (crop + 300) / 400, atol=1e-4, rtol=1e-4)
    whole = render(images, draw_whole_slices(4, WHOLE, 48, generator(0)), 48, SCALE)
    torch.testing.assert_close(whole[:, 0], (images.float() + 300) / 400, atol=1e-4, rtol=1e-4)


def test_outside_the_slice_there_is_air():
    images = torch.full((1, 32, 32), 325, dtype=torch.int16)
    draw = draw_whole_slices(1, settings.Finetune(**STILL | {"scale_min": 0.5, "scale_max": 0.5}), 32, generator(0))
    view = render(images, draw, 32, SCALE)
    air = (-1024 + 300) / 400
    assert view[0, 0, 0, 0].item() == pytest.approx(air, abs=1e-4)
    assert view[0, 0, 16, 16].item() == pytest.approx((325 + 300) / 400, abs=1e-4)


def test_contrast_and_gamma_act_as_defined():
    images = slices(1)
    maps = draw_whole_slices(1, WHOLE, 48, generator(0)).maps
    draw = ViewDraw(maps, torch.tensor([False]), torch.tensor([1.2]), torch.tensor([0.8]))
    unit = (images[0].numpy().astype(float) + 1024) / 1349
    expected = np.clip((unit - unit.mean()) * 1.2 + unit.mean(), 0, 1) ** 0.8
    expected = (expected * 1349 - 1024 + 300) / 400
    np.testing.assert_allclose(render(images, draw, 48, SCALE)[0, 0].numpy(), expected, atol=1e-4)


def test_slice_scope_gives_every_slice_mean_0_and_std_1_and_survives_an_empty_one():
    images = slices(2)
    images[1] = -1024
    draw = draw_whole_slices(2, WHOLE, 48, generator(0))
    view = render(images, draw, 48, HuScale(-1024, 325, 0, 1, "slice"))
    assert view[0].mean().abs() < 1e-3
    assert view[0].std().item() == pytest.approx(1, abs=1e-3)
    assert (view[1] == 0).all()


def test_draws_stay_in_their_ranges_and_inside_the_slice():
    draw = draw_views(500, FULL, 48, generator(1))
    scale = torch.linalg.det(draw.maps[:, :, :2]).abs().sqrt()
    assert scale.min() >= 1.1
    assert scale.max() <= 1.4
    center = draw.maps[:, :, :2] @ torch.tensor([16.0, 16.0], dtype=torch.float64) + draw.maps[:, :, 2]
    reach = 16 * scale[:, None]
    assert (center - reach >= -1e-9).all()
    assert (center + reach <= 48 + 1e-9).all()
    assert 0.4 < draw.flip_horizontal.float().mean() < 0.6
    assert draw.contrast.min() >= 0.75
    assert draw.gamma.max() <= 1.5
    assert 0.4 < (draw.gamma == 1).float().mean() < 0.6


def test_the_seed_is_connected():
    a, b, c = (draw_views(5, FULL, 48, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(a.maps, b.maps)
    assert not torch.equal(a.maps, c.maps)


def test_default_crops_of_the_paper_always_share_at_least_a_tenth():
    """Two windows of 246 to 314 pixels in a slice of 384 overlap by at least 110 pixels on each axis."""
    views = settings.Views(rotation_probability=0)
    images = torch.zeros(8, 384, 384, dtype=torch.int16)
    plan = ViewPlan(views, match=True, partners=True)
    pair = make_view_pair(images, torch.ones(8, dtype=torch.bool), plan, SCALE, generator(0))
    shares = torch.bincount(pair.image_M, minlength=8) / 224**2
    assert shares.min() >= 0.11


def test_partners_share_their_views_and_their_twins():
    images = torch.cat([slices(3)] * 2)  # a batch whose halves are equal images
    plan = ViewPlan(FULL, match=True, pixels_per_image=50, partners=True)
    pair = make_view_pair(images, torch.ones(6, dtype=torch.bool), plan, SCALE, generator(0))
    assert torch.equal(pair.view_1[:3], pair.view_1[3:])
    assert torch.equal(pair.view_2[:3], pair.view_2[3:])
    half = len(pair.image_M) // 2
    assert torch.equal(pair.image_M[:half] + 3, pair.image_M[half:])
    assert torch.equal(pair.pixel_1_M[:half], pair.pixel_1_M[half:])
    assert torch.bincount(pair.image_M).max() <= 50


def test_matched_pixels_are_a_random_part_of_the_dictionary():
    table = torch.full((2, 100), -1)
    table[0, 10:60] = torch.arange(50)
    table[1, 5:8] = 7
    draw, one, two = matched_pixels(table, 20, generator(0))
    assert torch.bincount(draw).tolist() == [20, 3]
    assert torch.equal(table[draw, one], two)
    assert len(matched_pixels(table, 0, generator(0))[0]) == 53
    assert not torch.equal(one, matched_pixels(table, 20, generator(1))[1])


def test_partners_are_of_different_patients_wherever_possible():
    for seed in range(10):
        draws = generator(seed)
        order, different = pair_partners(["a", "b", "a", "c", "b", "a"], draws)
        assert sorted(order.tolist()) == list(range(6))
        assert different.all()
        order, different = pair_partners(["a", "a", "a", "b", "x"], draws)  # odd: one is left out
        assert len(order) == 4
        order, different = pair_partners(["a", "a", "a", "b"], draws)
        assert sorted(different.tolist()) == [False, False, True, True]


def test_every_patient_meets_every_other_equally_often():
    """Names are often a hospital and a number: sorted by name, the first patients would never meet each other."""
    met, names, batches = torch.zeros(8, 8), [f"site{i // 4}_{i}" for i in range(8)], 4000
    for seed in range(batches):
        order, _ = pair_partners(names, generator(seed))
        met[order, order.roll(4)] += 1
    expected = batches / 7
    others = met[~torch.eye(8, dtype=torch.bool)]
    assert met.diagonal().sum() == 0
    assert (others - expected).abs().max() < 5 * expected**0.5


def test_a_mirror_swaps_left_and_right_structures_and_only_a_left_right_mirror_does():
    labels = torch.zeros(2, 32, 32, dtype=torch.uint8)
    labels[:, 10, 4], labels[:, 10, 28], labels[:, 20, 16] = 1, 2, 3  # left, right, middle
    swap = mirror_labels(["Left", "Right", "Middle"], [["Left", "Right"]])
    for how, flipped, upside_down in (
        (WHOLE.model_copy(update={"flip_horizontal_probability": 1.0}), True, False),
        (WHOLE.model_copy(update={"flip_vertical_probability": 1.0}), False, True),
    ):
        draw = draw_whole_slices(2, how, 32, generator(0))
        cut = render_labels(labels, draw, 32, swap)[0]
        row = 31 - 10 if upside_down else 10
        # The structure on the patient's left side of the picture keeps the name "Left".
        assert cut[row, 31 - 28 if flipped else 4] == 1
        assert cut[row, 31 - 4 if flipped else 28] == 2
        assert torch.bincount(cut.flatten(), minlength=4).tolist() == [32 * 32 - 3, 1, 1, 1]


def test_a_shift_moves_image_and_label_together():
    """A bright block with a label: after every shift the label lies where the block is, and it has been shifted."""
    images = torch.full((50, 48, 48), -1024, dtype=torch.int16)
    labels = torch.zeros(50, 48, 48, dtype=torch.uint8)
    images[:, 20:28, 12:20], labels[:, 20:28, 12:20] = 325, 1
    draw = draw_whole_slices(50, settings.Finetune(**STILL | {"translation_fraction": 0.2}), 48, generator(0))
    inside = render(images, draw, 48, SCALE)[:, 0] > (-350 + 300) / 400
    cut = render_labels(labels, draw, 48, torch.arange(2)) > 0
    assert ((inside & cut).sum((1, 2)) / (inside | cut).sum((1, 2))).min() > 0.75  # half a pixel at the borders
    rows = torch.stack([on.nonzero()[:, 0].float().mean() for on in cut]) - 23.5
    columns = torch.stack([on.nonzero()[:, 1].float().mean() for on in cut]) - 15.5
    for shift in (rows, columns):
        assert shift.abs().max() <= 0.2 * 48 + 0.5
        assert shift.min() < -6
        assert shift.max() > 6


def test_fine_tuning_turns_no_patient_upside_down_but_mirrors_left_and_right():
    """By default; the paper's pre-training mirrors both ways."""
    draw = draw_whole_slices(200, settings.Finetune(), 48, generator(0))
    across, down = draw.maps[:, 0, 0], draw.maps[:, 1, 1]  # signs of the axes; rotations are small
    assert (down > 0).all()
    assert 0.4 < (across < 0).float().mean() < 0.6
    assert torch.equal(across < 0, draw.flip_horizontal)
    assert (draw_views(200, FULL, 48, generator(0)).maps[:, 1, 1] < 0).any()


def test_a_range_that_ends_before_it_begins_is_refused():
    for section, name in (("finetune", "gamma"), ("finetune", "scale"), ("views", "crop_scale"), ("views", "contrast")):
        words = [f"{section}.{name}_min=1.2", f"{section}.{name}_max=1.1"]
        with pytest.raises(ValueError, match=rf"{section}\.{name}_min=1.2 is above {section}\.{name}_max=1.1"):
            settings.resolve("smoke", words)


def test_a_pair_of_unknown_structures_is_refused():
    with pytest.raises(ValueError, match="'Kidney', which is not a structure of this cohort: Left, Right"):
        mirror_labels(["Left", "Right"], [["Left", "Kidney"]])
