"""Suggested patients are uncertain and unlike those that are contoured, and nobody who is held out is among them."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import pixelglobal as pg
from pixelglobal import cli
from pixelglobal.data.prepare import prepare
from pixelglobal.evaluation.suggestion import ScanSummary, cases_to_choose_from, greedy_k_center, ranked, summaries
from pixelglobal.evaluation.uncertainty_maps import uncertainty_of
from tests.support import guessing_segmenter, rows_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return guessing_segmenter(folder / "model", store.grid, store.structures, store.left_right_pairs)


def scan(name, uncertainty, *features, patient=None):
    nothing = np.zeros((2, 2))
    return ScanSummary(name, patient or name, uncertainty, np.array(features, float), 0, nothing, nothing)


def test_coverage_takes_the_farthest_and_then_what_is_far_from_it_too():
    candidates = np.array([[10.0, 0], [9.0, 0], [0, 6.0], [1.0, 0]])
    order = greedy_k_center(candidates, np.zeros((1, 2)), np.ones(4), 3)
    assert order == [(0, 10.0), (2, 6.0), (1, 1.0)]


def test_uncertainty_weighs_the_distance():
    candidates = np.array([[10.0, 0], [0, 6.0]])
    assert greedy_k_center(candidates, np.zeros((1, 2)), np.array([0.1, 0.9]), 1) == [(1, 6.0)]
    assert greedy_k_center(candidates, np.zeros((0, 2)), np.array([0.1, 0.9]), 2)[0] == (1, np.inf)


def test_the_table_names_a_patient_once_and_ignores_features_that_never_change():
    candidates = [scan("a", 0.5, 9, 1), scan("b", 0.5, 10, 1, patient="p"), scan("b2", 0.5, 10.5, 1, patient="p")]
    table = ranked(candidates, [scan("known", 0.1, 0, 1)], 5)
    assert table["rank"].tolist() == [1, 2]
    assert table["patient"].tolist() == ["p", "a"]
    assert np.isfinite(table["distance"]).all()


def test_only_patients_without_contours_outside_of_validation_and_test_are_candidates(store):
    candidates, contoured = cases_to_choose_from(store)
    labelled = set(store.cases.loc[store.cases["labelled"], "case"])
    assert candidates
    assert not set(candidates) & (labelled | {*store.splits.validation, *store.splits.test})
    assert contoured == list(store.splits.train)


def test_a_scan_is_described_by_its_most_uncertain_voxels(store, model):
    case = store.splits.train[0]
    [described] = summaries(model, store, [case], CPU)
    maps = uncertainty_of(model, store.grid, CPU)(store.read_case(case).image_hu)
    n = round(0.01 * maps.size)
    assert described.uncertainty == pytest.approx(float(np.sort(maps.ravel())[-n:].mean()))
    assert described.slice_index == maps.sum((1, 2)).argmax()
    np.testing.assert_array_equal(described.uncertainty_map, maps[described.slice_index])
    np.testing.assert_array_equal(described.image_hu, store.read_case(case).image_hu[described.slice_index])


def test_the_command_writes_a_list_and_a_sheet(store, model, tmp_path, monkeypatch, capsys):
    rows = pd.concat(
        rows_of({"full": lambda seed, i, s, d=dice: d}, seeds=range(3)).assign(labelled_patients=count)
        for count, dice in ((4, 0.6), (16, 0.8))
    )
    rows.to_parquet(tmp_path / "rows.parquet")
    words = ["--store", store.root, "--model", model, "--out", tmp_path / "out", "--count", 2]
    words += ["--rows", tmp_path / "rows.parquet", "--wanted-dice", 90, "--hours-per-patient", 2]
    monkeypatch.setattr("sys.argv", ["pixelglobal", "suggest", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    table = pd.read_csv(tmp_path / "out" / "suggestion.csv")
    assert sorted(table["case"]) == sorted(cases_to_choose_from(store)[0])[:2]
    assert all(f"{rank}. {case}: uncertainty" in said for rank, case in zip(table["rank"], table["case"], strict=True))
    assert np.asarray(Image.open(tmp_path / "out" / "suggestion.png")).std() > 0
    assert "An average DSC of 90 % takes 64 labelled patients" in said  # halved by 4 times the patients, to 10 % at 64
    assert "2 hours a patient" in said


def test_mistakes_are_answered_in_one_sentence(store, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    out = ["--out", tmp_path / "out"]
    right = ["--store", store.root, "--model", model, *out]
    for words, said in (
        (["--store", tmp_path / "empty", "--model", model, *out], "is no prepared cohort: cohort.json is missing"),
        (["--store", store.root, "--model", tmp_path / "empty", *out], "holds no model: model.safetensors is missing"),
        ([*right, "--wanted-dice", 80], "--rows and --wanted-dice are given together"),
    ):
        monkeypatch.setattr("sys.argv", ["pixelglobal", "suggest", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert said in " ".join(capsys.readouterr().out.split())


def test_a_store_without_unlabelled_patients_is_refused(tmp_path, tiny, model):
    from pixelglobal.data.phantom import make_phantom_cohort

    folder = make_phantom_cohort(tmp_path / "scans", n_patients=4, n_unlabelled=0, size=32, n_slices=4)
    whole = prepare(folder, tmp_path / "store", tiny.prepare).store
    with pytest.raises(ValueError, match="has no patient without labels outside of its validation and test splits"):
        pg.suggest(whole, model, tmp_path / "out")
