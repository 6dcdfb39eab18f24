"""The command line: commands do what they say, answer at once, and answer every mistake in words."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pixelglobal import __version__, cli
from pixelglobal.config.overrides import resolve
from pixelglobal.doctor import problems
from pixelglobal.training.checkpoints import read_model
from tests.support import ROOT, TINY

HEAVY = ("ray", "torch", "timm", "matplotlib")


def call(*words):
    return CliRunner().invoke(cli.app, [str(w) for w in words])


def in_a_process(program, *words, **environment):
    """A new Python, with the words as its arguments; the library is found as in a checkout."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "ssl"), **environment}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


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


def test_the_commands_one_after_the_other(phantom_folder, tmp_path):
    small = ["--preset", "smoke", *TINY, "pretrain.epochs=1", "finetune.epochs=1"]
    assert call("prepare", phantom_folder, tmp_path / "store", *small).exit_code == 0
    store = ["--store", tmp_path / "store"]
    assert call("pretrain", *store, "--out", tmp_path / "pre", *small).exit_code == 0
    answer = call("finetune", *store, "--out", tmp_path / "ft", "--pretrained", tmp_path / "pre/model", *small)
    assert answer.exit_code == 0
    assert "tensors transferred; best validation Dice" in answer.output
    assert (tmp_path / "ft/model/cohort_statistics.json").is_file()
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
    words = ["pixel_matching=false", "stabilizer=off", "uncertainty_weighting=false"]
    words = [f"pixel_global.{word}" for word in words]
    assert call("pretrain", "--store", store.root, "--out", tmp_path / "go", *small, *words).exit_code == 0
    assert read_model(tmp_path / "go/model")[1]["pixel_global"]["pixel_matching"] is False
    # What only decides when a run stops may change in its folder; which scans it reads may not.
    again = ["pretrain", "--store", store.root, "--out", tmp_path / "go", *small, *words]
    assert call(*again, "pretrain.on_collapse=warn").exit_code == 0
    assert "pretrain.cases='pretrain' there, 'train' now" in str(call(*again, "pretrain.cases=train").exception)


def test_variants_are_values(store, tmp_path):
    small = ["--preset", "smoke", *TINY, "pretrain.epochs=1", "pretrain.steps_per_epoch=1"]
    answer = call("pretrain", "--store", store.root, "--out", tmp_path / "go", "--method", "go", *small)
    assert answer.exit_code == 0
    assert read_model(tmp_path / "go/model")[1]["pixel_global"]["pixel_matching"] is False


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


def test_the_run_folder_of_another_version_is_refused(store, tmp_path, refused):
    """A setting that has moved since is missing there, and is named."""
    small = ["--preset", "smoke", *TINY]
    words = ["pretrain", "--store", store.root, "--out", tmp_path / "old", *small]
    old = resolve("smoke", TINY).model_dump(mode="json")
    old["pretrain"] |= old.pop("pixel_global")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_text(json.dumps(old))
    message = refused(*words)
    assert "old holds a run with other settings" in message
    assert "pixel_global.mc_passes=None there, 2 now" in message


RUN = f"""
import json, sys, time
from pixelglobal.cli import main
try:
    main()
except SystemExit as stop:
    loaded = [name for name in {HEAVY} if name in sys.modules]
    print(json.dumps([stop.code, loaded, len(sys.modules), time.process_time()]), file=sys.stderr)
"""


@pytest.mark.parametrize("words", ["--help", "--version", "pretrain --help", "score", "significance"])
def test_what_needs_no_training_loads_nothing_for_it(words, phantom_folder, tmp_path, capsys):
    options = {
        "score": ["--predictions", phantom_folder / "labelsTr", "--references", phantom_folder / "labelsTr"],
        "significance": ["--rows", tmp_path / "rows.csv", "--reference", "a", "--unit", "patient", "--gain", "2"],
    }
    columns = {"method": list("ab") * 6, "case": [i // 2 for i in range(12)], "structure": "A", "dice": 0.5}
    pd.DataFrame(columns).assign(dice=[0.5 + i / 40 for i in range(12)]).to_csv(tmp_path / "rows.csv")
    more = [*options[words], "--out", tmp_path / "out"] if words in options else []
    answer = in_a_process(RUN, *words.split(), *more)
    status, loaded, modules, cpu_seconds = json.loads(answer.stderr.splitlines()[-1])
    assert (status, loaded) == (0, []), answer.stderr
    with capsys.disabled():
        print(f"\npixelglobal {words}: {cpu_seconds:.2f} s of CPU, {modules} modules")


def test_import_pixelglobal_loads_nothing_heavy():
    answer = in_a_process(f"import sys, pixelglobal; print([m for m in {(*HEAVY, 'pandas')} if m in sys.modules])")
    assert answer.stdout.strip() == "[]"


def test_the_version_is_printed():
    assert call("--version").output.strip() == f"pixelglobal {__version__}"


def parameters():
    for name, command in get_command(cli.app).commands.items():
        for parameter in command.params:
            yield pytest.param(parameter, id=f"{name} {parameter.name}")


@pytest.mark.parametrize("parameter", list(parameters()))
def test_every_option_and_argument_is_explained_in_whole_sentences(parameter):
    assert parameter.help
    assert parameter.help[0].isupper()
    assert parameter.help.partition(" [default: ")[0].endswith(".")


def test_the_list_of_commands_is_not_cut_off():
    answer = call("--help").output
    assert set(get_command(cli.app).commands) == {
        *("prepare", "inspect", "pretrain", "finetune", "evaluate", "predict", "uncertainty", "export"),
        *("suggest", "score", "significance", "doctor"),
    }
    assert "..." not in answer[answer.index("Commands:") :]


def test_both_programs_begin_with_the_same_preset():
    from experiments.__main__ import app as studies

    defaults = {
        (program, name): parameter.default
        for program, one in (("pixelglobal", cli.app), ("experiments", studies))
        for name, command in get_command(one).commands.items()
        for parameter in command.params
        if parameter.name == "preset"
    }
    assert {program for program, _ in defaults} == {"pixelglobal", "experiments"}
    assert set(defaults.values()) == {"small"}


def test_the_shell_completes_commands():
    answer = in_a_process(
        "from pixelglobal.cli import main; main()",
        _PIXELGLOBAL_COMPLETE="complete_bash",
        COMP_WORDS="pixelglobal pre",
        COMP_CWORD="1",
    )
    assert answer.stdout.split() == ["prepare", "pretrain", "predict"]


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
