"""The looks of methods on a page: told apart with every colour vision, seen on the page's grounds."""

from itertools import combinations

import numpy as np
import pytest

from experiments.report.palette import DARK, LIGHT, looks, method_words

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
VISIONS = {
    "everybody": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip


def linear(color):
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def delta_e(a, b, vision):
    return np.linalg.norm(lab(vision @ linear(a)) - lab(vision @ linear(b)))


def contrast(a, b):
    high, low = sorted((float(TO_XYZ[1] @ linear(color)) for color in (a, b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_simulation_sees_what_was_wrong_before():
    """Grey for random and pink for PGL were one colour to a reader with protanopia or deuteranopia."""
    assert min(delta_e("#8b949e", "#cc79a7", VISIONS[v]) for v in ("protanopia", "deuteranopia")) < 3


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_any_two_colours_can_be_told_apart(palette, vision):
    assert min(delta_e(a, b, VISIONS[vision]) for a, b in combinations(palette, 2)) >= 15


@pytest.mark.parametrize(("palette", "grounds"), [(LIGHT, ("#ffffff", "#f5f7f9")), (DARK, ("#15181c", "#1d2127"))])
def test_every_colour_is_seen_on_the_page(palette, grounds):
    assert min(contrast(color, ground) for color in palette for ground in grounds) >= 3


def test_no_two_methods_of_a_page_look_alike():
    methods = ["random", *(f"m{i}" for i in range(28)), "full"]
    found = looks(methods)
    assert len({(look.number, look.dash, look.symbol) for look in found.values()}) == 30
    assert len({look.number for look in looks([*methods[:11], "full"]).values()}) == 12


def test_our_method_and_random_look_the_same_on_every_page():
    assert looks(["full"])["full"] == looks(["random", "gp", "full"])["full"]
    assert looks(["random"])["random"] == looks(["random", "gp", "full"])["random"]


def test_names_are_words():
    assert method_words("random") == "Random initialisation"
    assert method_words("full_hinge_4500_pretraining_steps") == "Pixel-global (ours), hinge 4500 pretraining steps"
    assert method_words("simclr") == "SimCLR"
