"""What a report collects from finished stages: rows under the study's names, each stage once, and leakage by voxels."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from experiments.report.collect import (
    by_cohort,
    collapses,
    curves_of,
    environment_of,
    failures,
    finished,
    leakage_note,
    overlays_of,
    rows_of,
    run_table,
    uncertainty_of,
)
from experiments.selection import select
from tests.support import make_leakage


@pytest.fixture
def copy(finished_study, tmp_path):
    """The finished study in a folder of this test alone."""
    return replace(finished_study, out=shutil.copytree(finished_study.out, tmp_path / "out"))


@pytest.fixture
def pipelines(finished_study):
    return select(finished_study).all_pipelines


def test_rows_bear_the_names_of_the_study(pipelines, store):
    renamed = [replace(p, run=replace(p.run, study="mine", method=f"my {p.run.method}")) for p in pipelines]
    rows = rows_of(renamed)
    assert set(rows["study"]) == {"mine"}
    assert set(rows["method"]) == {"my random", "my full"}
    assert set(rows["seed"]) == {0, 1, 2}
    assert set(rows["case"]) == set(store.splits.test)
    assert set(rows["labelled_patients"]) == {2}
    assert len(rows) == sum(len(pd.read_parquet(p.rows)) for p in pipelines)


def test_what_is_missing_has_a_sentence_and_no_rows(copy):
    pipelines = select(copy).all_pipelines
    shutil.rmtree(pipelines[0].evaluate.folder)
    (pipelines[1].evaluate.folder / "error.txt").write_text("Traceback\nValueError: the scan is torn\n")
    (pipelines[1].evaluate.folder / "done.json").unlink()
    assert finished(pipelines) == pipelines[2:]
    assert failures(pipelines) == [
        "comparison-random-phantom-seed0 has no result: it has not run",
        "comparison-random-phantom-seed1 has no result: ValueError: the scan is torn",
    ]
    assert {(m, s) for m, s in rows_of(pipelines)[["method", "seed"]].itertuples(index=False)} == {
        ("random", 2), ("full", 0), ("full", 1), ("full", 2),
    }  # fmt: skip
    states = [record["state"] for record in run_table(pipelines)]
    assert states == ["missing", "failed", "done", "done", "done", "done"]
    with pytest.raises(ValueError, match="no run of this study is finished; run it first"):
        rows_of(pipelines[:1])


def test_a_stage_that_runs_share_has_one_curve(pipelines):
    assert [(c.method, c.seed) for c in curves_of(pipelines, "pretrain")] == [("full", s) for s in (0, 1, 2)]
    again = [replace(p, run=replace(p.run, study="ablation")) for p in pipelines]
    assert len(curves_of([*pipelines, *again], "finetune")) == 6
    assert all("loss" in curve.lines[0] for curve in curves_of(pipelines, "finetune"))


def test_the_run_table_shows_scores_stages_and_what_settings_differ(pipelines):
    table = run_table(pipelines)
    assert [record["run"] for record in table] == [p.run.name for p in pipelines]
    assert len({tuple(record) for record in table}) == 1  # the same columns in each
    volumes = rows_of(pipelines[:1]).query("slice_index == -1 and contoured")
    expected = volumes.groupby("structure")["dice"].mean().mean() * 100
    assert float(table[0]["mean DSC (%)"]) == pytest.approx(expected, abs=0.005)
    assert table[0]["pretrain folder"] == ""
    assert table[3]["pretrain folder"] == pipelines[3].pretrain.name
    assert not [name for name in table[0] if name.startswith(("pretrain.", "finetune."))]  # none differs
    other = pipelines[3].run.config.model_copy(
        update={"finetune": pipelines[3].run.config.finetune.model_copy(update={"learning_rate": 0.5})}
    )
    changed = [*pipelines[:3], replace(pipelines[3], run=replace(pipelines[3].run, config=other))]
    assert [record["finetune.learning_rate"] for record in run_table(changed)][-1] == "0.5"


def test_pictures_are_of_test_scans(pipelines, store):
    overlays = overlays_of(pipelines, count=2)
    assert len(overlays) == 2
    assert {overlay.case for overlay in overlays} <= set(store.splits.test)
    for overlay in overlays:
        assert list(overlay.predictions) == ["random", "full"]
        assert {overlay.image_hu.shape, *(p.shape for p in overlay.predictions.values())} == {overlay.reference.shape}
        assert overlay.reference.any()
    maps = uncertainty_of(pipelines, count=2)
    assert [picture.case for picture in maps] == list(store.splits.test[:2])
    assert all(0 <= picture.uncertainty.min() <= picture.uncertainty.max() <= 1 for picture in maps)
    assert uncertainty_of([p for p in pipelines if p.pretrain is None]) == []


def test_cohorts_keep_the_order_of_the_study(pipelines):
    other = [replace(p, run=replace(p.run, cohort="A second")) for p in pipelines[:2]]
    assert {cohort: len(own) for cohort, own in by_cohort([*pipelines, *other]).items()} == {
        "Phantom": 6,
        "A second": 2,
    }
    assert list(by_cohort([*other, *pipelines])) == ["A second", "Phantom"]


def test_no_leakage_says_how_many_scans_were_compared(pipelines, store):
    note, leaked = leakage_note(pipelines)
    assert not leaked
    seen = {*store.splits.pretrain, *store.splits.train, *store.splits.validation}
    assert note.startswith(f"No leakage: none of the {len(store.splits.test)} test scans")
    assert note.endswith(f"({len(seen)} scans).")


def test_a_test_scan_that_was_seen_is_named_with_its_run(copy):
    pipelines = select(copy).all_pipelines
    case = make_leakage(pipelines[4])
    note, leaked = leakage_note(pipelines)
    assert leaked
    assert note == (
        f"LEAKAGE: test scans were seen in training: {case} as another.nii in comparison-full-phantom-seed1. These "
        "results must not be used."
    )


def test_a_collapsed_pretraining_is_named_once(copy):
    pipelines = select(copy).all_pipelines
    assert collapses(pipelines) == []
    with (pipelines[3].pretrain.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "step", "step": 10**6, "collapsed_global": 4, "collapsed_pixel": 0}) + "\n")
    [note] = collapses([*pipelines, *pipelines])
    assert note.startswith("The pre-training of comparison-full-phantom-seed0 ended collapsed (global head; pretrain-")


def test_the_environment_is_that_of_a_finished_run(pipelines):
    facts = environment_of(pipelines)
    assert {"commit", "packages"} <= set(facts["environment"])
    assert facts["settings of the first run"] == pipelines[0].run.config.model_dump(mode="json")
