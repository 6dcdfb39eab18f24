"""Pictures: every type of file on one range, masks by their values, colours from the file to the network and back."""

import numpy as np
import pytest
import torch
from PIL import Image

import pixelglobal as pg
from pixelglobal import config as settings
from pixelglobal.config.schema import Prepare
from pixelglobal.data.layouts import read_cohort
from pixelglobal.data.phantom_pictures import STRUCTURES, make_phantom_pictures
from pixelglobal.data.pictures import read_mask, read_picture
from pixelglobal.data.pool import pool_of
from pixelglobal.data.prepare import prepare
from pixelglobal.methods.context_restoration import swap_blocks
from pixelglobal.views.augment import draw_views, render
from pixelglobal.views.intensity import HuScale, with_channels
from tests.support import TINY

COLOURS = [*TINY, "network.in_channels=3", f"prepare.structures={list(STRUCTURES)}".replace("'", '"')]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_phantom_pictures(tmp_path_factory.mktemp("pictures"), n_labelled=6, n_unlabelled=2, size=40)


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    return pg.prepare(folder, tmp_path_factory.mktemp("stores") / "store", preset="smoke", settings=COLOURS)


@pytest.fixture(scope="module")
def segmenter(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    run = pg.pretrain(store, out / "pretrain", preset="smoke", settings=COLOURS, method="full")
    return pg.finetune(store, run, out / "finetune", preset="smoke", settings=COLOURS)


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("dtype", "ending", "greatest"),
    [(np.uint8, "png", 255), (np.uint16, "png", 65535), (np.uint8, "tif", 255), (np.uint16, "tif", 65535),
     (np.float32, "tif", 1.0)],
)  # fmt: skip
def test_the_range_of_every_type_becomes_one_range(tmp_path, dtype, ending, greatest):
    values = np.array([[0, 0.5, 1]]) * greatest
    path = saved(tmp_path / f"a.{ending}", values.astype(dtype))
    assert read_picture(path, 1).tolist() == [[0, pytest.approx(16384, abs=66), 32767]]


def test_grey_is_repeated_and_transparency_dropped(tmp_path):
    grey = saved(tmp_path / "grey.png", np.array([[0, 255]], np.uint8))
    assert read_picture(grey, 3).tolist() == [[[0, 32767]]] * 3
    clear = saved(tmp_path / "clear.png", np.array([[[255, 0, 51, 7]]], np.uint8))
    assert read_picture(clear, 3).ravel().tolist() == [32767, 0, 6553]


def test_a_jpeg_picture_is_read_and_a_jpeg_mask_is_refused(tmp_path):
    path = saved(tmp_path / "a.jpg", np.full((8, 8, 3), 200, np.uint8), quality=95)
    assert read_picture(path, 3) == pytest.approx(200 * 32767 / 255, abs=300)
    with pytest.raises(ValueError, match="is a JPEG file, which changes values"):
        read_mask(path, (8, 8), 1)


def test_masks_are_read_by_their_values(tmp_path):
    values = np.array([[0, 2], [1, 2]], np.uint8)
    palette = Image.fromarray(values).convert("P")
    palette.putdata(values.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    assert read_mask(tmp_path / "palette.png", (2, 2), 2).tolist() == values.tolist()
    binary = saved(tmp_path / "binary.png", np.array([[0, 255]], np.uint8))
    assert read_mask(binary, (1, 2), 1).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"holds label values 255; expected whole numbers from 0 to 2"):
        read_mask(binary, (1, 2), 2)
    with pytest.raises(ValueError, match=r"has 1 x 2 pixels, and its picture 4 x 4"):
        read_mask(binary, (4, 4), 1)
    colours = saved(tmp_path / "colours.png", np.array([[[0, 1, 2]]], np.uint8))
    with pytest.raises(ValueError, match="is a colour picture; expected a mask with one value a pixel"):
        read_mask(colours, (1, 1), 2)


def test_what_is_no_picture_is_named_with_what_to_do(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    with pytest.raises(ValueError, match=r"broken\.png: cannot be read .* Copy it again"):
        read_picture(broken, 1)
    frames = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"stack\.tif: holds 3 pictures; expected one in a file"):
        read_picture(tmp_path / "stack.tif", 1)
    outside = saved(tmp_path / "outside.tif", np.array([[0.0, 300.0]], np.float32))
    with pytest.raises(ValueError, match=r"holds values from 0 to 300; expected 0 to 1"):
        read_picture(outside, 1)


def test_a_folder_inside_images_is_one_patient(tmp_path):
    for name in ("images/p1/a", "images/p1/b", "images/c"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        saved(path, np.zeros((4, 4), np.uint8))
    cohort = read_cohort(tmp_path)
    assert {case.case: case.patient for case in cohort.cases} == {"p1_a": "p1", "p1_b": "p1", "c": "c"}
    assert (cohort.layout, cohort.channels, cohort.structures) == ("images", 1, ())


def test_masks_need_names_and_pictures(folder, tmp_path):
    with pytest.raises(ValueError, match=r"prepare\.structures is not given; expected the names"):
        read_cohort(folder)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    saved(tmp_path / "images" / "a.png", np.zeros((4, 4), np.uint8))
    saved(tmp_path / "masks" / "b.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"b\.png: is the mask of no picture"):
        read_cohort(tmp_path, Prepare(structures=("A",)))
    with pytest.raises(ValueError, match=r"prepare\.hu_min and prepare\.hu_max are for CT"):
        read_cohort(tmp_path, Prepare(structures=("A",), hu_min=0))


def test_a_store_keeps_the_pixels_of_its_pictures(store, folder):
    assert (store.channels, store.hu_min, store.hu_max, store.grid.is_ct) == (3, 0, 32767, False)
    assert len(store.splits.pretrain) > len(store.splits.train)
    assert store.splits.test
    case = store.splits.test[0]
    batch = store.read_case(case)
    whole = read_picture(folder / "images" / f"{case}.png", 3)
    assert batch.image_hu.shape == (1, 3, 32, 32)
    np.testing.assert_array_equal(batch.image_hu[0], whole[:, 4:36, 4:36])
    mask = np.asarray(Image.open(folder / "masks" / f"{case}.png"))
    np.testing.assert_array_equal(batch.label[0], mask[4:36, 4:36])
    pixels = np.concatenate([store.read_case(c).image_hu.numpy().ravel() for c in store.splits.pretrain])
    facts = store.normalization(store.splits.pretrain)
    assert (facts.mean_hu, facts.std_hu) == (pytest.approx(pixels.mean()), pytest.approx(pixels.std()))


def test_one_channel_of_a_colour_picture_can_be_chosen(folder, tmp_path, store):
    words = [*COLOURS, "prepare.channel=1", "network.in_channels=1"]
    green = prepare(folder, tmp_path / "green", settings.resolve("smoke", words).prepare).store
    case = store.splits.test[0]
    assert green.channels == 1
    np.testing.assert_array_equal(green.read_case(case).image_hu, store.read_case(case).image_hu[:, 1])


def test_contrast_and_gamma_are_the_same_for_all_channels():
    grey = torch.randint(0, 32767, (4, 40, 40), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    draw = draw_views(4, settings.resolve("smoke", TINY).views, 40, torch.Generator().manual_seed(1))
    scale = HuScale(0, 32767, 15000.0, 9000.0)
    one = render(grey, draw, 32, scale)
    three = render(grey[:, None].expand(-1, 3, -1, -1), draw, 32, scale)
    assert three.shape == (4, 3, 32, 32)
    torch.testing.assert_close(three, one.expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


def test_a_ct_gets_one_channel_and_its_numbers_stay():
    hu = torch.randint(-1024, 325, (2, 5, 5)).to(torch.int16)
    assert torch.equal(with_channels(hu), hu.float().unsqueeze(1))
    assert "in_channels" not in settings.resolve("smoke").network.effective()  # addresses are those of before
    assert settings.resolve("smoke", ["network.in_channels=3"]).network.effective()["in_channels"] == 3


def test_blocks_of_colours_change_places_whole():
    views = torch.arange(3 * 64.0).view(1, 3, 8, 8)
    swapped = swap_blocks(views, 4, 1, torch.Generator().manual_seed(0))
    assert not torch.equal(swapped, views)
    torch.testing.assert_close(swapped[:, 1] - swapped[:, 0], torch.full((1, 8, 8), 64.0))
    assert swapped.sort().values.sum() == views.sum()


def test_pictures_go_from_folder_to_labels_on_their_own_pixels(segmenter, folder, tmp_path):
    summary = pg.predict(folder / "images", tmp_path / "out", model=segmenter, uncertainty=True)
    assert (summary["error"] == "").all()
    assert {"area_pixels"} <= set(summary)
    assert "volume_ml" not in summary
    labels = np.asarray(Image.open(tmp_path / "out" / "tissue_000.png"))
    assert labels.shape == (40, 40)
    assert labels.dtype == np.uint8
    assert labels.max() <= 2
    found = summary[(summary["case"] == "tissue_000") & (summary["structure"] == "Gland")]["area_pixels"].item()
    assert found == (labels == 2).sum()
    unsure = np.asarray(Image.open(tmp_path / "out" / "tissue_000_uncertainty.tif"))
    assert unsure.shape == (40, 40)
    assert np.isnan(unsure[0]).all()
    assert np.isfinite(unsure[20, 4:36]).all()
    prediction = segmenter.predict(folder / "images" / "tissue_000.png")
    np.testing.assert_array_equal(prediction.labels, labels)
    assert prediction.figure().axes


def test_pictures_are_scored(segmenter, store, tmp_path):
    rows = segmenter.evaluate(store, tmp_path, settings=COLOURS)
    volumes = rows[rows["slice_index"] == -1]
    assert set(volumes["structure"]) == set(STRUCTURES)
    assert volumes["dice"].between(0, 1).all()


def test_kinds_of_images_are_not_mixed(segmenter, store, folder, phantom_folder, tmp_path):
    with pytest.raises(ValueError, match=r"holds CT, and .* was trained on pictures in colour"):
        pg.predict(phantom_folder, tmp_path / "out", model=segmenter)
    saved(tmp_path / "grey.png", np.zeros((40, 40), np.uint8))
    with pytest.raises(ValueError, match=r"holds grey pictures, and .* was trained on pictures in colour"):
        segmenter.predict(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"slices of 3 channels, and network\.in_channels=1; set "):
        pg.finetune(store, None, tmp_path / "ft", preset="smoke", settings=[*COLOURS, "network.in_channels=1"])
    with pytest.raises(ValueError, match="holds pictures, and restore restores the HU of a body"):
        pg.pretrain(store, tmp_path / "pt", preset="smoke", settings=COLOURS, method="restore")
    grey = prepare(folder, tmp_path / "green", settings.resolve("smoke", [*COLOURS, "prepare.channel=1"]).prepare).store
    with pytest.raises(ValueError, match=r"was prepared with channels="):
        pool_of([store, grey])


@pytest.mark.export
@pytest.mark.parametrize("target", ["timm", "smp", "torchscript"])
def test_networks_of_colours_are_exported(segmenter, tmp_path, target):
    ending = ".pt" if target == "torchscript" else ".safetensors"
    certificate = segmenter.export(tmp_path / f"net{ending}", to=target)
    assert certificate.difference <= 1e-5
    assert "[B, 3, H, W]" in (tmp_path / "net.md").read_text()
