"""Crops by area: each method's views show the share of the slice that its authors' views show."""

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.methods.crops import CropSettings
from pixelglobal.seeds import generator
from pixelglobal.views.augment import draw_views
from tests.methods.test_methods import built, of

AREAS = {"gl": (0.271, 0.271), "simclr": (0.08, 1), "byol": (0.08, 1), "dino": (0.14, 1)}


def shares(maps, side, image_size):
    """The part of a slice's area under each view."""
    return (torch.linalg.det(maps[:, :, :2]).abs() * side**2 / image_size**2).tolist()


def test_shares_are_drawn_uniformly_and_views_stay_in_the_slice():
    views = settings.Views(crop_size=32, rotation_probability=0)
    draw = draw_views(2000, views, 96, generator(0), (0.2, 0.8))
    found = torch.tensor(shares(draw.maps, 32, 96))
    assert 0.2 <= found.min() < 0.21
    assert 0.79 < found.max() <= 0.8
    assert found.mean().item() == pytest.approx(0.5, abs=0.02)
    low = torch.minimum(draw.maps[:, :, 2], draw.maps[:, :, 2] + 32 * draw.maps[:, :, :2].sum(-1))
    assert low.min() > -1e-6


@pytest.mark.parametrize("name", AREAS)
def test_a_method_s_views_are_as_small_as_its_authors(tiny, name):
    plan = built(of(tiny, name)).view_plan(0)
    assert plan.crop_area == AREAS[name]
    other = built(of(tiny, name, {"crop_area_min": 0.1, "crop_area_max": 0.3})).view_plan(0)
    assert other.crop_area == (0.1, 0.3)


def test_gl_changes_every_intensity_and_its_second_stage_keeps_the_resolution(tiny):
    method = built(of(tiny, "gl"))
    for stage in (0, 1):
        views = method.view_plan(stage).views
        assert views.contrast_probability == views.gamma_probability == 1
        assert (views.contrast_min, views.contrast_max) == (0.7, 1.3)
    assert method.view_plan(1).crop_area is None
    assert built(of(tiny, "gl", {"regions": "dictionary"})).view_plan(1).crop_area == AREAS["gl"]


def test_areas_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"crop_area_min=0\.5 is above crop_area_max=0\.1"):
        CropSettings(crop_area_min=0.5, crop_area_max=0.1)
