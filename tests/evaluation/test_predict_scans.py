"""New scans to label maps: on the very grid of their files, the same as in an evaluation, and one bad scan alone."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import pixelglobal as pg
from pixelglobal import cli
from pixelglobal.evaluation import ensemble as ensembles
from pixelglobal.evaluation.ensemble import Ensemble
from pixelglobal.evaluation.study_models import models_of_study
from pixelglobal.training.checkpoints import model_folder, read_model
from tests.support import TINY, guessing_segmenter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(store, tmp_path_factory):
    """Two segmenters of the store that see every structure somewhere; their weights are random, not trained."""
    return [
        guessing_segmenter(
            tmp_path_factory.mktemp("run") / "model", store.grid, store.structures, store.left_right_pairs, seed
        ).parent
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def predicted(store, models, phantom_folder, tmp_path_factory):
    """The labels of the first model for the test scans, on the grids of their files."""
    out = tmp_path_factory.mktemp("predicted")
    scans = out / "scans"
    scans.mkdir()
    for case in store.splits.test:
        shutil.copy(phantom_folder / f"imagesTr/{case}.nii.gz", scans)
    return scans, out / "labels", pg.predict(scans, out / "labels", model=models[0])


def test_a_prediction_is_what_an_evaluation_scores(store, models, predicted, tmp_path):
    rows = pg.evaluate(store, models[0], tmp_path / "ev", preset="smoke", settings=TINY)
    scans, labels, summary = predicted
    assert set(summary["case"]) == set(store.splits.test)
    for case in store.splits.test:
        ours, scored = (nib.load(folder / f"{case}.nii.gz") for folder in (labels, tmp_path / "ev/predictions"))
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(scored.dataobj))
        of_case = rows[(rows["case"] == case) & (rows["slice_index"] == -1)].set_index("structure")
        voxel_ml = np.prod(nib.load(scans / f"{case}.nii.gz").header.get_zooms()) / 1000
        expected = of_case["n_predicted"] * voxel_ml
        mine = summary[summary["case"] == case].set_index("structure")["volume_ml"]
        np.testing.assert_allclose(mine, expected[mine.index], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("codes", ["SPL", "LPS", "ARI"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_labels_lie_exactly_as_the_file_of_the_scan(predicted, models, tmp_path, codes, dtype):
    """Shape, orientation, affine and data type are those of the file, whatever they are."""
    scans, labels, summary = predicted
    case = summary["case"][0]
    source = nib.load(scans / f"{case}.nii.gz")
    turn = nib.orientations.ornt_transform(nib.io_orientation(source.affine), nib.orientations.axcodes2ornt(codes))
    turned = nib.Nifti1Image(np.asarray(source.dataobj).astype(dtype), source.affine).as_reoriented(turn)
    nib.save(turned, tmp_path / "scan.nii")
    pg.predict(tmp_path / "scan.nii", tmp_path / "out", model=models[0])
    ours = nib.load(tmp_path / "out/scan.nii.gz")
    assert nib.aff2axcodes(ours.affine) == tuple(codes)
    assert ours.shape == turned.shape
    assert ours.get_data_dtype() == dtype
    np.testing.assert_array_equal(ours.affine, nib.load(tmp_path / "scan.nii").affine)
    straight = nib.load(labels / f"{case}.nii.gz").as_reoriented(turn)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(straight.dataobj))
    assert len(np.unique(np.asarray(ours.dataobj))) > 1


def test_a_file_of_one_volume_in_four_dimensions_and_with_a_slope(predicted, models, tmp_path):
    scans, labels, summary = predicted
    case = summary["case"][0]
    source = nib.load(scans / f"{case}.nii.gz")
    stored = (np.asarray(source.dataobj) + 1024).astype(np.uint16)[..., None]
    image = nib.Nifti2Image(stored, source.affine)
    image.header.set_slope_inter(1, -1024)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a name"))
    nib.save(image, tmp_path / "scan.nii.gz")
    pg.predict(tmp_path / "scan.nii.gz", tmp_path / "out", model=models[0])
    ours = nib.load(tmp_path / "out/scan.nii.gz")
    assert ours.shape == stored.shape
    assert not ours.header.extensions
    expected = np.asarray(nib.load(labels / f"{case}.nii.gz").dataobj)
    np.testing.assert_array_equal(np.asarray(ours.dataobj)[..., 0], expected)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_scans_of_other_formats_come_back_on_their_grid(predicted, models, tmp_path, ending):
    sitk = pytest.importorskip("SimpleITK")
    scans, labels, summary = predicted
    case = summary["case"][0]
    image = sitk.ReadImage(scans / f"{case}.nii.gz")
    sitk.WriteImage(sitk.Flip(image, [True, False, True]), tmp_path / f"scan{ending}")
    pg.predict(tmp_path / f"scan{ending}", tmp_path / "out", model=models[0])
    ours = sitk.ReadImage(tmp_path / "out/scan.nii.gz")
    expected = sitk.Flip(sitk.ReadImage(labels / f"{case}.nii.gz"), [True, False, True])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(expected))
    for facts in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, facts)(), getattr(expected, facts)(), atol=1e-4)


def test_probabilities_and_uncertainty_are_maps_on_the_scan(predicted, models, tmp_path):
    scans, _, _ = predicted
    summary = pg.predict(scans, tmp_path, model=models, probabilities=True, uncertainty=True)
    case, structures = summary["case"][0], list(dict.fromkeys(summary["structure"]))
    names = [f"{case}_probability_{name}" for name in ("background", *structures)]
    probability = np.stack([nib.load(tmp_path / f"{name}.nii.gz").get_fdata() for name in names])
    labels = np.asarray(nib.load(tmp_path / f"{case}.nii.gz").dataobj)
    assert np.nanmax(np.abs(probability.sum(0) - 1)) < 0.01
    np.testing.assert_allclose(probability.max(0), np.take_along_axis(probability, labels[None].astype(int), 0)[0])
    for name in ("uncertainty", "disagreement"):
        values = nib.load(tmp_path / f"{case}_{name}.nii.gz").get_fdata()
        assert values.shape == labels.shape
        assert 0 <= np.nanmin(values) < np.nanmax(values) <= 1
    assert summary["mean_confidence"].dropna().between(1 / len(names), 1).all()


def scan_of(predicted, model):
    scans, _, summary = predicted
    image = np.asarray(nib.load(scans / f"{summary['case'][0]}.nii.gz").dataobj).transpose(2, 1, 0)
    return Ensemble([model], CPU).grid.slices_of(image.astype(np.int16), (5.0, 5.0, 5.0))


def test_several_models_are_averaged_and_only_they_disagree(predicted, models):
    images = scan_of(predicted, models[0])
    one, two = (Ensemble([model], CPU).segment(images, probabilities=True).probabilities for model in models)
    both = Ensemble(models, CPU).segment(images, probabilities=True, uncertainty=True)
    np.testing.assert_allclose(both.probabilities, (one.astype(float) + two) / 2, atol=1e-3)
    assert both.disagreement.max() > 0
    same = Ensemble([models[0], models[0]], CPU).segment(images, uncertainty=True)
    assert same.disagreement.max() < 1e-3


def test_a_map_does_not_depend_on_how_many_slices_are_worked_on_at_once(predicted, models, monkeypatch):
    images = scan_of(predicted, models[0])
    whole = Ensemble(models, CPU).segment(images, uncertainty=True)
    monkeypatch.setattr(ensembles, "SLICES_AT_ONCE", 3)
    parts = Ensemble(models, CPU).segment(images, uncertainty=True)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_allclose(whole.uncertainty, parts.uncertainty, atol=2e-3)
    other = Ensemble(models, CPU).segment(images, uncertainty=True, seed=1)
    assert np.abs(whole.uncertainty.astype(float) - other.uncertainty).max() > 0.01


def test_a_mirror_swaps_left_and_right(predicted, models):
    """The mirrored scan with mirrors gives the mirrored probabilities, in which left and right have changed names."""
    images = scan_of(predicted, models[0])
    ensemble = Ensemble(models[:1], CPU)
    straight = ensemble.segment(images, probabilities=True, mirrors=True).probabilities
    mirrored = ensemble.segment(np.ascontiguousarray(images[..., ::-1]), probabilities=True, mirrors=True).probabilities
    swapped = [0, 1, 2, 4, 3]  # Bladder, Rectum, LeftFemur, RightFemur
    np.testing.assert_allclose(mirrored[swapped][..., ::-1], straight, atol=2e-3)


def test_mirrors_are_refused_where_left_and_right_would_be_confused(models):
    facts = read_model(models[0])[1]
    ensembles.refuse_mirrors(facts)
    with pytest.raises(ValueError, match="LeftFemur, RightFemur have a side by their names"):
        ensembles.refuse_mirrors({**facts, "left_right_pairs": []})
    with pytest.raises(ValueError, match="without mirrored slices"):
        ensembles.refuse_mirrors({**facts, "finetune": {**facts["finetune"], "flip_horizontal_probability": 0}})


def test_one_bad_scan_spoils_only_itself_and_the_exit_status_says_so(predicted, models, tmp_path):
    scans = shutil.copytree(predicted[0], tmp_path / "scans")
    (scans / "broken.nii.gz").write_bytes(b"no scan")
    words = ["predict", scans, "--model", model_folder(models[0]), "--out", tmp_path / "out"]
    answer = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert answer.exit_code == 1
    assert "broken.nii.gz: cannot be read" in " ".join(answer.output.split())
    summary = pd.read_csv(tmp_path / "out/summary.csv", keep_default_na=False)
    assert summary[summary["error"] != ""]["case"].tolist() == ["broken"]
    done = {path.name.removesuffix(".nii.gz") for path in (tmp_path / "out").glob("*.nii.gz")}
    assert done == set(summary["case"]) - {"broken"} == set(predicted[2]["case"])


def test_an_image_that_is_no_ct_is_never_segmented_in_silence(predicted, models, tmp_path):
    """Values of an MR image: none below 0. Its slices are smaller than the model's, and padded with air."""
    scans, _, summary = predicted
    source = nib.load(scans / f"{summary['case'][0]}.nii.gz")
    mr = (np.asarray(source.dataobj)[4:-4, 4:-4] + 1024) * 0.5
    nib.save(nib.Nifti1Image(mr.astype(np.int16), source.affine), tmp_path / "mr.nii.gz")
    assert not summary["flags"].str.contains("no CT").any()
    words = ["predict", tmp_path / "mr.nii.gz", "--model", models[0], "--out", tmp_path / "out"]
    answer = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert "check mr: no CT in HU: almost no voxel is below" in " ".join(answer.output.split())
    assert pd.read_csv(tmp_path / "out/summary.csv")["flags"].str.startswith("no CT in HU").all()


@pytest.fixture
def study(models, tmp_path):
    """The OUT folder of a study with two seeds of a method, in the form in which the runner leaves it."""
    out, runs = tmp_path / "runs", []
    for seed, model in reversed([*enumerate(models)]):
        shutil.copytree(model, out / "stages" / f"finetune-{seed}")
        runs.append({"study": "comparison", "method": "full", "part": "", "cohort": "Phantom", "seed": seed,
                     "finetune": f"finetune-{seed}"})  # fmt: skip
    pd.DataFrame(runs).to_parquet(out / "runs.parquet")
    return out


def test_the_models_of_a_study_are_those_of_its_seeds(study, predicted, tmp_path):
    models = models_of_study(study, "comparison", "full")
    assert [read_model(model)[1]["seed"] for model in models] == [0, 1]
    words = ["predict", predicted[0], "--study", study, "comparison", "full", "--out", tmp_path, "--uncertainty"]
    assert CliRunner().invoke(cli.app, [str(word) for word in words]).exit_code == 0
    assert list(tmp_path.glob("*_disagreement.nii.gz"))
    with pytest.raises(ValueError, match="no finished run of comparison best; it has: comparison full"):
        models_of_study(study, "comparison", "best")
    table = pd.read_parquet(study / "runs.parquet")
    table.assign(part=["a", "b"]).to_parquet(study / "runs.parquet")
    with pytest.raises(ValueError, match="on 2 sets of patients"):
        models_of_study(study, "comparison", "full")


def test_progress_goes_from_nothing_to_all_scans(predicted, models, tmp_path):
    told = []
    pg.predict(predicted[0], tmp_path, model=models[0], progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (len(set(predicted[2]["case"])),) * 2


@pytest.fixture
def bad_input(predicted, models, store, tmp_path):
    """Every mistake, with the words of the command and the beginning of what is said."""
    scan = next(predicted[0].iterdir())
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no scan")
    old = shutil.copytree(model_folder(models[0]), tmp_path / "old")
    facts = (old / "model.json").read_text()
    (old / "model.json").write_text(facts.replace('"grid"', '"mesh"'))
    other = shutil.copytree(model_folder(models[0]), tmp_path / "other")
    (other / "model.json").write_text(facts.replace('"Bladder"', '"Liver"'))
    damaged = shutil.copytree(model_folder(models[0]), tmp_path / "damaged")
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    no_json = shutil.copytree(model_folder(models[0]), tmp_path / "no_json")
    (no_json / "model.json").write_text("{")
    Image.new("L", (8, 8)).save(tmp_path / "photograph.png")
    pretrained = pg.pretrain(store, tmp_path / "pre", preset="smoke", settings=[*TINY, "pretrain.epochs=1"])
    model, out = ["--model", models[0]], ["--out", tmp_path / "out"]
    return {
        "no such scan": (["nowhere", *model, *out], "nowhere: there is no such file or folder"),
        "no scan in a folder": ([tmp_path / "empty", *model, *out], "neither dataset.json nor any"),
        "another file": ([tmp_path / "notes.txt", *model, *out], "is no scan that can be read"),
        "no model": ([scan, *out], "no model was given"),
        "an empty model folder": ([scan, "--model", tmp_path / "empty", *out], "holds no model: model.safetensors"),
        "a pre-trained model": ([scan, "--model", pretrained, *out], "holds a 'pretrained' model"),
        "damaged weights": ([scan, "--model", damaged, *out], "is not what weights_sha256 in model.json says"),
        "a damaged description": ([scan, "--model", no_json, *out], "cannot read the model in"),
        "a photograph": ([tmp_path / "photograph.png", *model, *out], "holds grey pictures, and"),
        "an older model": ([scan, "--model", old, *out], "whose models do not say how slices are made"),
        "models that differ": ([scan, *model, "--model", other, *out], "expected models of the same structures"),
        "no study": ([scan, "--study", tmp_path, "comparison", "full", *out], "holds no finished study"),
        "results over scans": ([scan, *model, "--out", scan.parent], "which a result could replace"),
        "a folder that is a file": ([scan, *model, "--out", tmp_path / "notes.txt"], "cannot write"),
    }


def test_every_mistake_is_answered_in_one_sentence(bad_input, monkeypatch, capsys):
    for mistake, (words, said) in bad_input.items():
        monkeypatch.setattr("sys.argv", ["pixelglobal", "predict", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        answer = " ".join(capsys.readouterr().out.split())
        assert stop.value.code == 2, mistake
        assert said in answer, mistake
        assert "Traceback" not in answer


def test_a_full_disk_is_one_sentence(predicted, models, tmp_path, monkeypatch, capsys):
    def full(image, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    monkeypatch.setattr(
        "sys.argv", ["pixelglobal", "predict", str(predicted[0]), "--model", str(models[0]), "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "No space left on device. What was there before is intact" in " ".join(capsys.readouterr().out.split())
