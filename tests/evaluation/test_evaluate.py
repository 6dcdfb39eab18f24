"""Any labelled store or folder can be evaluated, but never a scan that was seen or slices that were made otherwise."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import pixelglobal as pg
from pixelglobal import cli
from pixelglobal.data.store import Store
from tests.support import TINY, guessing_segmenter


@pytest.fixture(scope="module")
def model(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    return guessing_segmenter(folder, store.grid, store.structures, store.left_right_pairs)


def evaluated(scans, model, out, **more):
    rows = pg.evaluate(scans, model, out, preset="smoke", settings=TINY, **more)
    return rows.sort_values(["case", "slice_index", "structure"]).reset_index(drop=True)


def test_a_folder_gives_the_rows_of_its_store(store, model, phantom_folder, tmp_path):
    from_folder = evaluated(phantom_folder, model, tmp_path / "a")
    assert set(from_folder["case"]) == set(store.splits.train + store.splits.validation + store.splits.test)
    from_store = evaluated(store, model, tmp_path / "b")
    same = from_folder[from_folder["case"].isin(store.splits.test)].reset_index(drop=True)
    pd.testing.assert_frame_equal(same[from_store.columns], from_store)
    tables = [pd.read_csv(tmp_path / name / "calibration.csv").set_index("case") for name in ("a", "b")]
    pd.testing.assert_frame_equal(tables[0].loc[tables[1].index], tables[1])
    assert tables[1]["expected_calibration_error"].between(0, 1).all()
    assert tables[1]["error_in_most_uncertain_tenth"].between(0, 1).all()
    assert (tmp_path / "b/reliability.png").stat().st_size > 1000


@pytest.fixture
def external(phantom_folder, tmp_path):
    """The cohort as another hospital has it: labels in another order, and one that the model does not know."""
    folder = shutil.copytree(phantom_folder, tmp_path / "external")
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "Rectum": 1, "Bladder": 2, "LeftFemur": 3, "Prostate": 4}
    description["left_right_pairs"] = []
    (folder / "dataset.json").write_text(json.dumps(description))
    order = np.array([0, 2, 1, 3, 4], np.uint8)
    for path in (folder / "labelsTr").iterdir():
        image = nib.load(path)
        nib.save(nib.Nifti1Image(order[np.asarray(image.dataobj)], image.affine), path)
    return folder


def test_structures_of_an_external_set_are_found_by_their_names(external, model, phantom_folder, tmp_path):
    ours = evaluated(phantom_folder, model, tmp_path / "a")
    theirs = evaluated(external, model, tmp_path / "b")
    assert set(theirs["structure"]) == {"Bladder", "Rectum", "LeftFemur"}
    expected = ours[ours["structure"] != "RightFemur"].reset_index(drop=True)
    pd.testing.assert_frame_equal(theirs, expected)
    labels = np.asarray(nib.load(tmp_path / "b/predictions/phantom_000.nii.gz").dataobj)
    assert 4 not in labels  # which is Prostate there


def refusal(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pixelglobal", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().out.split())


def test_what_must_not_be_evaluated_is_refused(store, external, model, phantom_folder, tmp_path, monkeypatch, capsys):
    def said(scans, of=model):
        return refusal(["evaluate", "--store", scans, "--model", of, "--out", tmp_path / "out"], monkeypatch, capsys)

    facts = json.loads((model / "model.json").read_text())
    voxels = store.cases.set_index("case")["sha256"]["phantom_001"]
    for name, change in {
        "seen": {"cases_seen": {"elsewhere": voxels}},
        "coarse": {"grid": {**facts["grid"], "in_plane_spacing_mm": 4.0}},
        "other": {"structures": ["A", "B", "C", "D"], "left_right_pairs": []},
    }.items():
        shutil.copytree(model, tmp_path / name)
        (tmp_path / name / "model.json").write_text(json.dumps(facts | change))
    assert "tested on: phantom_001 (seen as elsewhere)" in said(phantom_folder, tmp_path / "seen")
    other_grid = said(store.root, tmp_path / "coarse")
    assert "'in_plane_spacing_mm': 4.0" in other_grid
    assert "'in_plane_spacing_mm': None" in other_grid
    assert "evaluate the folder of its scans in place of the store" in other_grid
    assert "expected at least one structure of the same name" in said(external, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    assert "neither dataset.json nor any" in said(tmp_path / "empty")
    assert "cohort.json is missing" in said(tmp_path / "nowhere")
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    shutil.copy(phantom_folder / "imagesTr/phantom_000.nii.gz", unlabelled)
    assert "none of its 1 scans has labels" in said(unlabelled)


def test_uncertainty_is_mapped_for_fine_tunings_and_never_for_no_scan(store, model, tmp_path, monkeypatch, capsys):
    words = ["uncertainty", "--store", store.root, "--model", model, "--out", tmp_path / "maps"]
    assert CliRunner().invoke(cli.app, [str(word) for word in words]).exit_code == 0
    for case in store.splits.test:
        values = nib.load(tmp_path / f"maps/{case}_uncertainty.nii.gz").get_fdata()
        assert 0 <= np.nanmin(values) < np.nanmax(values) <= 1
    empty = shutil.copytree(store.root, tmp_path / "store")
    splits = json.loads((empty / "splits.json").read_text())
    (empty / "SHA256SUMS").unlink()  # edited on purpose
    (empty / "splits.json").write_text(json.dumps({**splits, "test": []}))
    assert not Store.open(empty).splits.test
    words[2] = empty
    assert "the test split of" in refusal(words, monkeypatch, capsys)
