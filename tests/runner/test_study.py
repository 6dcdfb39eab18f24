"""A whole study through Ray: rows and report are there, a second run does nothing, a failed run stops no other."""

import base64
import json
import re
import shutil
import sys
import threading
import urllib.error
import urllib.request

import pandas as pd
import pytest

from experiments.report.browse import server_of
from pixelglobal.files import digest_of
from tests.browser import needs_chromium
from tests.support import ROOT, TINY, experiments


def command(*words):
    """The same in this process."""
    from experiments.__main__ import app

    app(list(map(str, words)), prog_name="python -m experiments", standalone_mode=False)


@pytest.fixture(scope="module")
def study(store, tmp_path_factory):
    """A finished comparison of two methods; pre-training by Ray Train with Ray Data, fine-tuning in Tune trials."""
    out = tmp_path_factory.mktemp("study") / "out"
    words = ["comparison", "--store", store.root, "--out", out, "--preset", "smoke", "--seeds", "0", *TINY]
    words += ["cluster.pretrain_workers=1", "pretrain.epochs=1", "finetune.epochs=1"]
    planned = experiments("plan", *words, "--price-per-hour", "2.5")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert not list(out.glob("stages/*/done.json"))  # a plan trains nothing
    answer = experiments("run", *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return out, words, planned.stdout, answer.stdout


@pytest.mark.cluster
def test_rows_tables_figures_and_one_page(study, store):
    out, _, _, printed = study
    rows = pd.read_parquet(out / "comparison/rows.parquet")
    assert set(rows["method"]) == {"random", "full"}
    assert set(rows["case"]) == set(store.splits.test)
    names = {p.name for p in (out / "comparison").rglob("*") if p.is_file()}
    assert {"report.html", "table_1.md", "table_1.tex", "table_1.csv", "overlays.svg", "uncertainty.pdf"} <= names
    table = (out / "comparison/tables/table_1.md").read_text()
    mean = re.search(r"\| Random initialisation \| \**(\d+\.\d)", table)[1]  # with one of its two decimals
    assert mean in printed
    assert mean in (out / "comparison/report.html").read_text()
    page = (out / "comparison/report.html").read_text()
    assert "No leakage" in page
    commit = json.loads(next(out.glob("stages/evaluate-*/environment.json")).read_text())["commit"]
    assert commit[:10] in page
    verdict = json.loads((out / "comparison/verdict.json").read_text())["cohorts"]["Phantom"]
    assert verdict["state"] == "undecided"
    assert f"Undecided: {verdict['reason']}" in printed
    assert "Undecided" in page  # in the words of verdict_words


@pytest.mark.cluster
def test_the_plan_names_what_the_run_makes_and_the_report_says_how_true_it_was(study):
    out, words, planned, _ = study
    plan = json.loads((out / "plans/comparison.json").read_text())
    assert set(plan["seconds"]) == {p.parent.name for p in out.glob("stages/*/done.json")}
    assert all(seconds > 0 for seconds in plan["seconds"].values())
    assert "5 new stages, 0 done" in planned
    assert f"{2.5 * plan['device_hours']:.2f} at 2.5 an hour" in planned
    page = (out / "comparison/report.html").read_text()
    assert "plan of comparison against actual" in page
    assert "2 of 2 planned stages have finished" in page
    again = experiments("plan", *words)
    assert "All 5 stages are done: running this costs nothing." in again.stdout


@pytest.mark.cluster
def test_a_finished_study_keeps_no_training_states(study):
    out = study[0]
    assert not list(out.glob("stages/*/checkpoints"))
    assert not list(out.glob("stages/*/train"))


@pytest.mark.cluster
def test_a_finished_study_computes_nothing_again(study, monkeypatch, capsys):
    out, words, *_ = study
    stages = {p: p.stat().st_mtime_ns for p in out.glob("stages/*/done.json")}
    assert len(stages) == 5
    monkeypatch.setattr("experiments.__main__.start_ray", lambda *_: pytest.fail("Ray was started"))
    command("run", *words)
    assert {p: p.stat().st_mtime_ns for p in out.glob("stages/*/done.json")} == stages
    assert "Report:" in capsys.readouterr().out


@pytest.mark.cluster
def test_another_seed_needs_its_own_runs_alone(study, capsys):
    words = ["0,1" if word == "0" else word for word in study[1]]
    command("plan", *words, "--no-calibrate")
    assert "5 new stages, 5 done" in capsys.readouterr().out


@pytest.mark.cluster
def test_tune_s_own_tools_can_browse_it(study):
    out = study[0]
    from ray.tune import ExperimentAnalysis

    folders = sorted((out / "tune").iterdir())
    assert len(folders) == 2
    table = ExperimentAnalysis(str(folders[0])).dataframe()
    assert set(table["config/run/method"]) <= {"random", "full"}
    trials = {p.name for folder in folders for p in folder.iterdir()}
    assert {"comparison-random-phantom-seed0", "comparison-full-phantom-seed0"} <= trials
    assert list(out.glob("tune/*/*/events.out.tfevents.*"))


@pytest.mark.cluster
def test_tune_has_the_curve_and_the_end_of_every_training(study):
    """One row of progress.csv for each epoch and one for the end, as ResultGrid and TensorBoard read them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = study[0]
    for path in out.glob("tune/*/*/progress.csv"):
        table = pd.read_csv(path)
        stage = "pretrain" if "-pretrain-" in path.parent.parent.name else "finetune"
        [own] = [f for f in out.glob(f"stages/{stage}-*/metrics.jsonl") if _is_of(f.parent, path, stage, out)]
        epochs = {json.loads(line)["epoch"] for line in own.read_text().splitlines()}
        assert len(table) == len(epochs) + 1
        assert table["loss"].notna().all()
        assert table["seconds"].notna().tolist() == [False] * len(epochs) + [True]
        assert table["test_dice"].notna().iloc[-1] == (stage == "finetune")
        events = EventAccumulator(str(path.parent)).Reload()
        assert len(events.Scalars("ray/tune/loss")) == len(table)


def _is_of(folder, path, stage, out):
    """Whether a stage is that of a trial, by the method of the run."""
    runs = pd.read_parquet(out / "runs.parquet")
    return folder.name in set(runs[runs["method"] == path.parent.name.split("-")[1]][stage].dropna())


@pytest.mark.cluster
def test_a_failed_run_is_named_and_the_others_are_reported(study, store, tmp_path):
    out, words, *_ = study
    broken = shutil.copytree(out, tmp_path / "out")
    pretrained = next(broken.glob("stages/pretrain-*"))
    for stage in broken.glob("stages/*"):
        if json.loads((stage / "stage.json").read_text()).get("pretrained") == pretrained.name:
            shutil.rmtree(stage)
            finetuned = stage.name
    for stage in broken.glob("stages/evaluate-*"):
        if json.loads((stage / "stage.json").read_text())["finetuned"] == finetuned:
            shutil.rmtree(stage)
    weights = pretrained / "model/model.safetensors"
    weights.write_bytes(b"x" * weights.stat().st_size)
    done = json.loads((pretrained / "done.json").read_text())  # else the damage is seen, and the stage is run again
    done["sha256"]["model/model.safetensors"] = digest_of(weights)
    (pretrained / "done.json").write_text(json.dumps(done))
    words = [broken if w == out else w for w in words]
    answer = experiments("run", *words)
    assert answer.returncode == 1
    assert "comparison-full-phantom-seed0 has no result" in " ".join(answer.stdout.split())
    assert "cannot read the model" in experiments("status", *words).stdout
    assert (broken / "comparison/report.html").is_file()
    assert not list(broken.glob("tune/*/comparison-full-*/error.txt"))  # a broken file is not tried again


@pytest.mark.cluster
def test_a_pretraining_that_ended_collapsed_is_named_in_the_report(study, tmp_path):
    out, words, *_ = study
    other = shutil.copytree(out, tmp_path / "out")
    assert "ended collapsed" not in (other / "comparison/report.html").read_text()
    with next(other.glob("stages/pretrain-*/metrics.jsonl")).open("a") as file:
        file.write('{"kind": "step", "step": 1000000, "collapsed_global": 0, "collapsed_pixel": 4}\n')
    assert experiments("report", *[other if w == out else w for w in words]).returncode == 0
    page = (other / "comparison/report.html").read_text()
    assert "The pre-training of comparison-full-phantom-seed0 ended collapsed (pixel head; pretrain-" in page


@pytest.mark.cluster
def test_all_results_are_one_data_set_and_every_column_is_described(study):
    out = study[0]
    rows, runs = pd.read_parquet(out / "rows"), pd.read_parquet(out / "runs.parquet")
    assert set(runs["evaluate"]) == set(rows["stage"]) == {p.name for p in out.glob("stages/evaluate-*")}
    assert runs["commit"].notna().all()
    assert list(runs.sort_values("method")["pretrain"].isna()) == [False, True]  # full, random
    described = (ROOT / "docs/reference/rows.md").read_text()
    lines = [line.split("|")[1].strip() for line in described.splitlines() if line.startswith("| ")]
    only_where_given = {"column", "pretraining_seed"}
    assert {name for line in lines for name in line.split(", ")} - only_where_given == set(rows.columns)


@pytest.fixture
def address(study):
    """Where `browse` serves the study."""
    server = server_of(study[0])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.cluster
def test_reports_can_be_browsed_and_nothing_else(study, address):
    out = study[0]

    def get(path):
        with urllib.request.urlopen(address + path) as answer:
            return answer.read().decode()

    board = json.loads(get("/board.json"))
    assert board["studies"][0]["verdicts"]["Phantom"]["state"] == "undecided"
    assert {run["state"] for run in board["runs"]} == {"done"}
    assert board["tensorboard"] == f"tensorboard --logdir {out / 'tune'}"
    assert "<h1>Studies</h1>" in get("/")
    assert get("/comparison/report.html") == (out / "comparison/report.html").read_text()
    assert get("/comparison/tables/table_1.csv").startswith("method,structure,metric")
    model = next(out.glob("stages/*/model/model.json")).relative_to(out)
    for path in (f"/{model}", "/comparison/", "/../../etc/passwd", "/%2e%2e/store/cases.csv", "/runs.parquet"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(path)


@pytest.mark.cluster
@needs_chromium
def test_the_served_pages_work_in_a_browser(address, browser):
    board = browser.open(address)
    board.wait("document.querySelectorAll('#rows tr').length === 2")
    page = browser.open(address + "/comparison/report.html#filter=random")
    page.wait("document.getElementById('case-viewer').dataset.shown")
    rows = "[...document.querySelectorAll('#run-table tbody tr')]"
    assert page.ask(f"{rows}.filter(r => !r.hidden).map(r => r.cells[0].innerText)") == [
        "comparison-random-phantom-seed0"
    ]
    assert page.ask("document.querySelectorAll('.plot svg').length") > 5
    assert page.cut_off() == board.cut_off() == []
    assert page.problems == board.problems == []
    assert base64.b64decode(page.pdf()).startswith(b"%PDF")


def test_the_messages_of_studies(store, tmp_path, monkeypatch, capsys):
    from experiments.__main__ import main

    base = ["--store", store.root, "--out", tmp_path]
    for words, message in (
        (["run", "tables", *base], "unknown study 'tables': choose one of comparison, ablation, semi_supervised"),
        (["report", "comparison", *base, "--preset", "smoke"], "no run of this study is finished; run it first"),
        (["status", "comparison", *base, "--seeds", "a"], "--seeds 'a': expected whole numbers with commas"),
    ):
        monkeypatch.setattr(sys, "argv", ["experiments", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert message in " ".join(capsys.readouterr().out.split())
