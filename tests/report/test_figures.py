"""Figures: every patient and seed is there, sides and scores are right, strange names and empty inputs do no harm."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from experiments.report.curves import curves_data, draw_curves
from experiments.report.figures import (
    DOUBLE_CM,
    SINGLE_CM,
    STRUCTURE_COLORS,
    Curve,
    Overlay,
    draw_overlays,
    svg,
)
from experiments.report.page import write_picture_file
from experiments.report.palette import looks
from experiments.report.patients import draw_patients
from experiments.report.uncertainty import UncertaintyPicture, body_of, draw_uncertainty, uncertainty_by_distance

LEFT, RIGHT = slice(4, 8), slice(24, 28)  # columns run from the patient's left to the right


pytestmark = pytest.mark.usefixtures("figures_closed")


def overlay(predictions=("random", "full"), labels=None, size=32, case="c0"):
    reference = np.zeros((size, size), np.uint8)
    reference[10:14, LEFT], reference[10:14, RIGHT] = 1, 2
    image = np.full((size, size), 40, np.int16)
    chosen = dict.fromkeys(predictions, reference if labels is None else labels)
    return Overlay(case, 3, image, 1.0, reference, chosen, ("LeftLung", "RightLung"))


def words(figure):
    return [t.text for t in ElementTree.fromstring(svg(figure)).iter("{http://www.w3.org/2000/svg}text")]


def test_an_svg_is_one_element_that_loads_nothing():
    drawing = svg(draw_overlays([overlay()]))
    root = ElementTree.fromstring(drawing)
    assert root.tag.endswith("svg")
    links = re.findall(r'(?:href|src)="([^"]*)"', drawing)
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert "<metadata" not in drawing
    assert not plt.get_fignums()


def test_the_same_figure_is_the_same_text():
    assert svg(draw_overlays([overlay()])) == svg(draw_overlays([overlay()]))


def test_structures_have_colours_of_their_own():
    assert len(set(STRUCTURE_COLORS)) == 12


def test_slices_are_shown_from_the_feet():
    """The patient's right is on the left of the picture, its letter too."""
    figure = draw_overlays([overlay()])
    axis = figure.axes[1]
    paths = {tuple(c.get_edgecolor()[0]): c.get_paths()[0].vertices for c in axis.collections}
    left, right = paths.values()
    assert right[:, 0].mean() < left[:, 0].mean()
    letters = {t.get_text(): t.get_position()[0] for t in figure.axes[0].texts}
    assert letters["R"] < 0.5 < letters["L"]
    assert figure.axes[0].images[0].origin == "lower"  # rows run from back to front: the front is at the top


def test_contours_surround_the_pixels_and_nothing_is_cropped_away():
    figure = draw_overlays([overlay()])
    axis = figure.axes[1]
    shown = axis.images[0].get_array()
    assert shown.shape[0] < 32  # zoomed
    widths = [np.ptp(c.get_paths()[0].vertices[:, 0]) for c in axis.collections]
    assert widths == [4.0, 4.0]
    for contour in axis.collections:
        x, y = contour.get_paths()[0].vertices.T
        assert x.min() >= -0.5
        assert x.max() <= shown.shape[1] - 0.5
        assert y.min() >= -0.5
        assert y.max() <= shown.shape[0] - 0.5


def test_a_structure_at_the_edge_has_a_closed_contour():
    edge = np.zeros((32, 32), np.uint8)
    edge[:, :3] = 1
    axis = draw_overlays([overlay(labels=edge)]).axes[2]
    vertices = axis.collections[0].get_paths()[0].vertices
    assert np.array_equal(vertices[0], vertices[-1])


def test_the_score_under_a_panel_is_its_mean_dice():
    half = np.zeros((32, 32), np.uint8)
    half[10:14, LEFT] = 1  # all of one structure, nothing of the other
    figure = draw_overlays([overlay(labels=half)])
    assert [a.get_xlabel() for a in figure.axes] == ["", "", "DSC 50.0 %", "DSC 50.0 %"]
    assert [a.get_title() for a in figure.axes] == ["CT", "reference", "random", "full"]
    perfect = draw_overlays([overlay()])
    assert perfect.axes[3].get_xlabel() == "DSC 100.0 %"


def test_a_slice_without_structures_is_shown_whole():
    empty = np.zeros((32, 32), np.uint8)
    one = overlay(labels=empty)
    figure = draw_overlays([Overlay("c", 0, one.image_hu, 1.5, empty, one.predictions, one.structures)])
    assert figure.axes[0].images[0].get_array().shape == (32, 32)
    assert figure.axes[0].get_aspect() == 1.5
    assert figure.axes[2].get_xlabel() == "nothing here"


def test_names_are_text_not_markup():
    figure = draw_overlays([overlay(case=r"c$\frac$ <b>&", predictions=("a$b$",))])
    found = " ".join(words(figure))
    assert r"c$\frac$ <b>&" in found
    assert "a$b$" in found


def test_uncertainty_is_on_the_scale_0_to_1():
    image = np.zeros((16, 16), np.int16)
    gradient = np.tile(np.linspace(0.2, 0.4, 16), (16, 1))
    figure = draw_uncertainty(
        [UncertaintyPicture("c", 5, image, gradient), UncertaintyPicture("d", 6, image, gradient)]
    )
    maps = [a.images[0] for a in figure.axes[2:4]]
    assert [m.get_clim() for m in maps] == [(0, 1), (0, 1)]
    assert maps[0].get_array()[0, 0] == pytest.approx(0.4)  # mirrored like the CT above it
    assert "mean U 0.30" in words(figure)


def test_only_the_body_has_an_uncertainty_and_it_is_read_by_distance_from_borders():
    image = np.full((20, 20), -1000, np.int16)
    image[4:16, 4:16] = 0
    image[9:11, 9:11] = -900  # air inside the body belongs to it
    image[0, 0] = 0  # a speck outside
    body = body_of(image)
    assert body.sum() == 144
    labels = np.zeros((20, 20), np.uint8)
    labels[:, :10] = 1
    u = np.tile(np.abs(np.arange(20) - 9.5) / 20, (20, 1))  # grows with the distance from the border at 10
    distances, means = uncertainty_by_distance([UncertaintyPicture("c", 0, image, u, labels)])
    assert distances == [1, 2, 3, 4, 5, 6]
    assert means == pytest.approx([0.025 + 0.05 * i for i in range(6)])
    figure = draw_uncertainty([UncertaintyPicture("c", 0, image, u, labels)])
    assert np.isnan(figure.axes[2].images[0].get_array().filled(np.nan)).sum() == 400 - 144


def rows_of(values, seeds=(0, 1)):
    """values: {method: Dice of patient i}; the rows of two structures, one of which is in no contour of patient 0."""
    return pd.DataFrame(
        {"method": m, "seed": seed, "patient": f"p{i}", "case": f"p{i}", "slice_index": index, "structure": s,
         "dice": dice, "contoured": not (i == 0 and s == "B")}
        for m, all_dice in values.items() for seed in seeds for i, dice in enumerate(all_dice)
        for s in "AB" for index in (0, -1)
    )  # fmt: skip


def test_every_patient_and_seed_is_a_dot_and_every_patient_a_line():
    rows = rows_of({"random": [0.5, 0.6, 0.7], "full": [0.6, 0.7, 0.8]})
    axis = draw_patients(rows, looks(["random", "full"]), width_cm=SINGLE_CM).axes[0]
    dots = np.concatenate([c.get_offsets() for c in axis.collections if len(c.get_offsets()) == 3])
    assert dots.shape == (2 * 2 * 3, 2)
    assert sorted(dots[:, 0].round()) == sorted([50, 60, 70, 60, 70, 80] * 2)
    assert len(axis.lines) == 3
    assert {t.get_text() for t in axis.texts} == {"62.5", "72.5"}  # the mean over structures


def test_curves_of_many_methods_with_gaps():
    logs = [
        Curve(f"m{i}", seed, [{"step": 1, "loss": 1.0}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": 0.5},
                              {"step": 4, "validation_dice": None}])
        for i in range(12) for seed in range(6)
    ]  # fmt: skip
    panels = {"loss": "loss", "validation_dice": "Dice"}
    figure = draw_curves(logs, panels, looks([f"m{i}" for i in range(12)]), width_cm=DOUBLE_CM)
    loss = figure.axes[0]
    assert len(loss.lines) == 12  # the mean over the seeds of each method, with their range as a band
    assert len(loss.collections) == 12
    assert list(loss.lines[0].get_xdata()) == [1, 3]
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == ["loss"]  # Dice was never logged
    data = curves_data(logs, panels)
    assert [panel["key"] for panel in data["panels"]] == ["loss"]
    assert len(data["panels"][0]["lines"]) == 72


def test_the_best_epoch_is_that_of_the_highest_validation_dice():
    lines = [{"step": i, "validation_dice": dice} for i, dice in enumerate([0.1, 0.5, 0.4])]
    [panel] = curves_data([Curve("full", 0, lines)], {"validation_dice": "Dice"})["panels"]
    assert panel["lines"][0]["best"] == 1


def test_long_logs_are_short_in_the_page():
    lines = [{"step": i, "loss": float(i)} for i in range(10_000)]
    [panel] = curves_data([Curve("full", 0, lines)], {"loss": "loss"})["panels"]
    assert len(panel["lines"][0]["steps"]) <= 160
    assert np.mean(panel["lines"][0]["values"]) == pytest.approx(4999.5, rel=0.01)


def test_no_training_gives_an_empty_panel():
    assert "not logged" in words(draw_curves([], {"loss": "loss"}, {}, width_cm=SINGLE_CM))


@pytest.mark.parametrize("width_cm", [SINGLE_CM, DOUBLE_CM])
def test_figures_for_print_have_text_of_8_points_and_truetype_fonts(width_cm, tmp_path):
    rows = rows_of({"random": [0.5, 0.6, 0.7], "full": [0.6, 0.7, 0.8]})
    figure = draw_patients(rows, looks(["random", "full"]), width_cm=width_cm)
    assert figure.get_size_inches()[0] * 2.54 == pytest.approx(width_cm)
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert texts
    assert {text.get_fontsize() for text in texts} == {8}
    write_picture_file(figure, tmp_path / "figure.pdf")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in content  # TrueType, embedded
    assert b"/Type3" not in content


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="there is no slice to draw"):
        draw_overlays([])
    with pytest.raises(ValueError, match="there is no uncertainty map to draw"):
        draw_uncertainty([])
