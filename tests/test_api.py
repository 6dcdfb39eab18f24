"""`import pixelglobal`: the examples of its functions run, and its functions are the commands in Python."""

import functools
import inspect
import json
import logging
import shutil
import textwrap
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from typer.main import get_command

import pixelglobal as pg
from pixelglobal import api
from pixelglobal.cli import app
from pixelglobal.data.store import Store
from tests.support import TINY

FUNCTIONS = [name for name in api.__all__ if name.islower()]


def example_of(function):
    return textwrap.dedent(inspect.getdoc(function).partition("Example::\n\n")[2].partition("\n\n")[0])


@pytest.fixture(scope="module")
def after_the_examples(phantom_folder, tmp_path_factory):
    """The variables of all examples after they ran one after the other, with tiny settings, in a folder with scans."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(phantom_folder, folder / "scans")
    for name in ("predictions", "references"):
        shutil.copytree(phantom_folder / "labelsTr", folder / name)
    tiny = {name: getattr(pg, name) for name in FUNCTIONS}
    for name in ("prepare", "pretrain", "finetune", "evaluate"):
        tiny[name] = functools.partial(tiny[name], preset="smoke", settings=TINY)
    structures = json.loads((phantom_folder / "dataset.json").read_text())["labels"]
    variables = {"pg": type("pg", (), {name: staticmethod(function) for name, function in tiny.items()})}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in (
            "prepare",
            "inspect",
            "pretrain",
            "finetune",
            "evaluate",
            "predict",
            "load_model",
            "export",
            "suggest",
        ):
            assert example_of(getattr(api, name)), name
            exec(example_of(getattr(api, name)), variables)
        for method in (pg.Model.predict, pg.Model.evaluate):
            variables["rows_before"] = variables["rows"]
            exec(example_of(method), variables)
        liver_and_spleen = '["Liver", "Spleen"]'
        example = example_of(api.score)
        assert liver_and_spleen in example
        exec(example.replace("rows =", "scored =").replace(liver_and_spleen, str([*structures][1:])), variables)
        yield variables


def test_the_examples_leave_what_they_say(after_the_examples):
    store, rows, scores = (after_the_examples[name] for name in ("store", "rows_before", "scores"))
    assert isinstance(store, Store)
    assert set(rows["case"]) == set(store.splits.test)
    assert set(rows["method"]) == {"full"}
    pd.testing.assert_frame_equal(rows, pd.read_parquet("runs/evaluation/rows.parquet"))
    n_slices = store.n_slices(store.splits.test[:1])
    assert scores.shape == (n_slices, 1 + len(store.structures), store.image_size, store.image_size)
    scored = after_the_examples["scored"]
    assert (scored["dice"].dropna() == 1).all()  # a folder against its copy
    assert set(scored["method"]) == {"nnU-Net"}


def test_a_model_does_what_the_functions_do(after_the_examples):
    """Its predictions have the shape of the file; it is its folder; its evaluation is that of the function."""
    model, labels, uncertainty = (after_the_examples[name] for name in ("segmenter", "labels", "uncertainty"))
    saved = nib.load("labels/phantom_000.nii.gz")
    np.testing.assert_array_equal(labels, np.asarray(saved.dataobj))
    assert uncertainty.shape == saved.shape
    assert Path(model) == Path("runs/finetune-full/model") == pg.Model("runs/finetune-full").folder
    assert model.facts["kind"] == "segmenter"
    with pytest.raises(ValueError, match=r"holds no model: model\.safetensors is missing"):
        pg.Model("runs")
    ours, theirs = after_the_examples["rows"], after_the_examples["rows_before"]
    pd.testing.assert_frame_equal(ours.drop(columns="method"), theirs.drop(columns="method"))
    assert len(pg.Prediction(labels, uncertainty).figure().axes) == 3
    with pytest.raises(ValueError, match="holds a 'pretrained' model"):
        after_the_examples["run"].predict("scans/imagesTr/phantom_000.nii.gz")


def test_a_loaded_segmenter_gives_the_labels_that_were_saved(after_the_examples):
    store = after_the_examples["store"]
    case = store.splits.test[0]
    model = pg.load_model("runs/finetune-full/model")
    assert not model.training
    assert model.facts["structures"] == list(store.structures)
    with torch.no_grad():
        labels = model(store.read_case(case).image_hu).argmax(1).numpy().astype(np.uint8)
    saved = np.asarray(nib.as_closest_canonical(nib.load(f"runs/evaluation/predictions/{case}.nii.gz")).dataobj)
    np.testing.assert_array_equal(store.paste_back(case, labels), saved.transpose(2, 1, 0))


def test_a_loaded_pretraining_is_its_student_behind_the_scale(after_the_examples):
    from safetensors.torch import load_file

    model = pg.load_model("runs/pretrain-full")
    saved = load_file("runs/pretrain-full/model/model.safetensors")
    for name, value in model.network.encoder.state_dict().items():
        torch.testing.assert_close(value, saved[f"student.encoder.{name}"])
    images_hu = after_the_examples["images_hu"]
    features = model(images_hu)
    assert features.shape[2:] == images_hu.shape[1:]
    expected = (images_hu.float().clamp(model.scale.hu_min, model.scale.hu_max) - model.scale.mean_hu) / (
        model.scale.std_hu
    )
    torch.testing.assert_close(features, model.network(expected.unsqueeze(1)))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model: model\.safetensors is missing"):
        pg.load_model(tmp_path)


def test_scans_that_cannot_be_read_are_named_in_the_log(phantom_folder, tmp_path, caplog):
    shutil.copytree(phantom_folder, tmp_path / "scans")
    (tmp_path / "scans/imagesTr/phantom_007.nii.gz").write_bytes(b"no scan")
    with caplog.at_level(logging.WARNING):
        store = pg.prepare(tmp_path / "scans", tmp_path / "store", preset="smoke", settings=TINY)
    assert len(store.cases) == 7
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["quarantined phantom_007"]


@pytest.mark.cluster
def test_scores_from_ray_are_those_from_here(ray_on_two_cpus, phantom_folder):
    folders = [phantom_folder / "labelsTr"] * 2
    here, there = (pg.score(*folders, structures=["A", "B", "C", "D"], on_ray=on_ray) for on_ray in (False, True))
    pd.testing.assert_frame_equal(here, there)


def four_columns(**columns):
    rows = {"method": ["a", "b"] * 6, "case": np.repeat(range(6), 2).astype(str), "structure": "Liver"}
    return pd.DataFrame({**rows, "dice": np.linspace(0.5, 0.9, 12), **columns})


def test_compare_takes_tables_and_files(tmp_path):
    rows = four_columns()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    tables = [
        pg.compare(given, "a", unit="patient") for given in (rows, tmp_path / "rows.csv", [tmp_path / "rows.csv"])
    ]
    assert tables[0].comparisons["n_units"].tolist()[0] == 6
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table.comparisons, tables[0].comparisons)


def test_compare_refuses_rows_of_two_cohorts():
    rows = four_columns(cohort=["north", "north", "south", "south"] * 3)
    with pytest.raises(ValueError, match="2 cohorts, north, south; expected one"):
        pg.compare(rows, "a", unit="patient")


def test_functions_and_commands_have_the_same_words_and_defaults():
    """A function may take more, such as `progress`; settings, overrides and the options of `prepare` are one thing."""
    commands = get_command(app).commands
    settings = ("overrides", "layout", "keep_ids", "fix", "max_quarantined")
    for name in ("prepare", "pretrain", "finetune", "evaluate", "score"):
        parameters = inspect.signature(getattr(api, name)).parameters
        words = {p.name: p.default for p in commands[name].params if p.name not in ("help", "out", *settings)}
        assert words.keys() <= parameters.keys(), name
        for word, default in words.items():
            if parameters[word].default is not inspect.Parameter.empty:
                assert parameters[word].default == default, (name, word)
    compare = inspect.signature(api.compare).parameters
    for parameter in commands["significance"].params:
        if parameter.name in compare and compare[parameter.name].default is not inspect.Parameter.empty:
            assert compare[parameter.name].default == parameter.default, parameter.name


def test_the_names_are_listed_and_no_others_exist():
    assert set(pg.__all__) == {*FUNCTIONS, "Model", "Prediction", "__version__"}
    assert set(pg.__all__) <= set(dir(pg))
    for name in FUNCTIONS:
        assert getattr(pg, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'predict_everything'"):
        pg.predict_everything  # noqa: B018
