"""The command line: verbs do what they say, and every mistake is answered in words."""

import json
import sys

import pytest
from typer.testing import CliRunner

from pixelglobal import cli
from pixelglobal.doctor import problems
from pixelglobal.training.checkpoints import read_model
from tests.support import TINY


def call(*words):
    return CliRunner().invoke(cli.app, [str(w) for w in words])


@pytest.fixture
def refused(monkeypatch, capsys):
    """The message of a refusal, on one line."""

    def message_of(*words):
        monkeypatch.setattr(sys, "argv", ["pixelglobal", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        return " ".join(capsys.readouterr().out.split())

    return message_of


def test_the_verbs_one_after_the_other(phantom_folder, tmp_path):
    small = ["--preset", "smoke", *TINY, "pretrain.epochs=1", "finetune.epochs=1"]
    assert call("prepare", phantom_folder, tmp_path / "store", *small).exit_code == 0
    store = ["--store", tmp_path / "store"]
    assert call("pretrain", *store, "--out", tmp_path / "pre", *small).exit_code == 0
    answer = call("finetune", *store, "--out", tmp_path / "ft", "--pretrained", tmp_path / "pre/model", *small)
    assert answer.exit_code == 0
    assert "tensors transferred; best validation Dice" in answer.output
    answer = call("evaluate", *store, "--model", tmp_path / "ft/model", "--out", tmp_path / "ev", *small)
    assert answer.exit_code == 0
    assert (tmp_path / "ev/rows.parquet").is_file()
    answer = call("uncertainty", *store, "--model", tmp_path / "pre/model", "--out", tmp_path / "u")
    assert answer.exit_code == 0
    tested = json.loads((tmp_path / "store/splits.json").read_text())["test"]
    assert {p.name for p in (tmp_path / "u").iterdir()} == {f"{case}_uncertainty.nii.gz" for case in tested}
    assert json.loads((tmp_path / "pre/config.json").read_text())["pretrain"]["batch_size"] == 4
    # The same command again has nothing to do; other settings in the same folder are refused.
    assert call("pretrain", *store, "--out", tmp_path / "pre", *small).exit_code == 0
    other = call("pretrain", *store, "--out", tmp_path / "pre", *small, "pretrain.learning_rate=0.5")
    assert isinstance(other.exception, ValueError)
    assert "pretrain.learning_rate=0.001 there, 0.5 now" in str(other.exception)


def test_settings_of_the_ablation_are_kept_without_a_variant(store, tmp_path):
    small = ["--preset", "smoke", *TINY, "pretrain.epochs=1", "pretrain.steps_per_epoch=1"]
    words = ["pretrain.pixel_matching=false", "pretrain.stabilizer=off", "pretrain.uncertainty_weighting=false"]
    assert call("pretrain", "--store", store.root, "--out", tmp_path / "go", *small, *words).exit_code == 0
    assert read_model(tmp_path / "go/model")[1]["pretrain"]["pixel_matching"] is False
    # What only decides when a run stops may change in its folder.
    words.append("pretrain.on_collapse=warn")
    assert call("pretrain", "--store", store.root, "--out", tmp_path / "go", *small, *words).exit_code == 0


def test_variants_are_values(store, tmp_path):
    small = ["--preset", "smoke", *TINY, "pretrain.epochs=1", "pretrain.steps_per_epoch=1"]
    answer = call("pretrain", "--store", store.root, "--out", tmp_path / "go", "--variant", "go", *small)
    assert answer.exit_code == 0
    assert read_model(tmp_path / "go/model")[1]["pretrain"]["pixel_matching"] is False


def test_refusals_are_messages_not_tracebacks(store, tmp_path, refused):
    assert "did you mean 'batch_size'?" in refused(
        "pretrain", "--store", store.root, "--out", tmp_path / "x", "pretrain.batchsize=4"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    message = refused("pretrain", "--store", store.root, "--out", tmp_path / "full", "--preset", "smoke", *TINY)
    assert "exists and is no run of this program; choose an empty or a new folder" in message
    message = refused(
        "finetune", "--store", store.root, "--out", tmp_path / "y", "--pretrained", tmp_path, "--preset", "smoke", *TINY
    )
    assert "holds no model: model.safetensors is missing" in message
    assert not (tmp_path / "y").exists()


def test_the_doctor_finds_nothing_here():
    assert problems() == []
    answer = call("doctor")
    assert answer.exit_code == 0
    assert "torch" in answer.output


@pytest.mark.parametrize(
    "pair", [("2.14.1", "0.29.1", True), ("2.15.0", "0.29.1", False), ("2.14.1+cpu", "0.28.0", False)]
)
def test_the_doctor_knows_which_torchvision_belongs_to_which_torch(pair):
    from pixelglobal.doctor import _belong_together

    assert _belong_together(*pair[:2]) is pair[2]
