"""Settings: nothing unknown is taken, nonsense is refused when it is made, ablations change one thing."""

from itertools import pairwise

import pytest

from pixelglobal import config as settings


def changed(a, b):
    return [name for name in type(a).model_fields if getattr(a, name) != getattr(b, name)]


@pytest.mark.parametrize(("preset", "reading"), [("paper", "hinge"), ("paper_literal", "abs_pixel")])
def test_paper_presets_hold_the_numbers_of_the_paper(preset, reading):
    c = settings.resolve(preset)
    assert (c.prepare.hu_min, c.prepare.hu_max, c.prepare.image_size, c.views.crop_size) == (-1024, 325, 384, 224)
    p = c.pretrain
    assert (p.optimizer, p.learning_rate, p.batch_size, p.epochs, p.warmup_epochs) == ("lars", 0.2, 8, 500, 2)
    ours = c.methods["pixel_global"]
    assert (ours.ema_base, ours.ema_final, ours.mc_passes, ours.stabilizer) == (0.996, 1.0, 20, reading)
    assert c.pretrain.gradient_clip == 0  # of which the paper says nothing
    f = c.finetune
    assert (f.optimizer, f.learning_rate, f.batch_size, f.epochs) == ("adam", 1e-3, 8, 100)
    assert c.network.encoder == "resnet50"


@pytest.mark.parametrize("preset", list(settings.PRESETS))
def test_each_step_of_the_ablation_changes_one_idea(preset):
    base = settings.resolve(preset)
    rows = [settings.variant(base, name).methods["pixel_global"] for name in ("full", "gpc", "gp", "go")]
    assert [changed(a, b) for a, b in pairwise(rows)] == [
        ["uncertainty_weighting"],
        ["stabilizer"],
        ["pixel_matching"],
    ]


def test_an_unknown_key_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"'batchsize' in Pretrain: did you mean 'batch_size'\?"):
        settings.resolve("smoke", ["pretrain.batchsize=4"])
    with pytest.raises(ValueError, match=r"'pretrian' in Config: did you mean 'pretrain'\?"):
        settings.resolve("smoke", ["pretrian.batch_size=4"])


def test_a_crop_that_is_no_multiple_of_32_is_refused_with_two_that_are():
    with pytest.raises(ValueError, match=r"views\.crop_size=100.*multiple of 32; try 96 or 128"):
        settings.resolve("smoke", ["views.crop_size=100"])
    with pytest.raises(ValueError, match=r"prepare\.image_size=90.*try 64 or 96"):
        settings.resolve("smoke", ["prepare.image_size=90"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.batch_size=3", "must be even"),
        ("pretrain.batch_size=x", r"pretrain\.batch_size='x': Input should be a valid integer"),
        ("pixel_global.pixel_matching=false", "needs pixel_global.pixel_matching=true"),
        ("prepare.train_fraction=0.95", "are more than all patients; their sum is at most 1"),
        ("views.gamma_min=3", r"views\.gamma_min=3\.0 is above views\.gamma_max=1\.5"),
        ("batch_size", r"write section\.name=value"),
    ],
)
def test_senseless_values_are_refused_in_words(override, message):
    with pytest.raises(ValueError, match=message):
        settings.resolve("smoke", [override])


def test_overrides_and_files_give_the_same_config(tmp_path):
    c = settings.resolve("small", ["pretrain.batch_size=4", "seed=3", "network.encoder=resnet34"])
    assert (c.pretrain.batch_size, c.seed, c.network.encoder) == (4, 3, "resnet34")
    settings.save(c, tmp_path / "config.json")
    assert settings.load(tmp_path / "config.json") == c
    assert settings.resolve("small", {"pretrain": {"batch_size": 4}}).pretrain.batch_size == 4


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        settings.resolve("smoke").pretrain.epochs = 3  # type: ignore[misc]


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="paper, paper_literal, small, smoke"):
        settings.resolve("big")


def test_the_tolerance_of_the_surface_dice_is_one_or_one_for_each_structure():
    def tolerance(word):
        return settings.resolve("smoke", [f"evaluate.surface_tolerance_mm={word}"]).evaluate.surface_tolerance_mm

    assert tolerance("2") == 2.0
    assert tolerance("Liver=3,Spleen=2") == tolerance('{"Liver": 3, "Spleen": 2}') == {"Liver": 3.0, "Spleen": 2.0}
    for bad in ("-1", "Liver=0", "Liver"):
        with pytest.raises(ValueError, match="tolerance"):
            tolerance(bad)
