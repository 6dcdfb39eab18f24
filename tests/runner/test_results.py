"""Results of an OUT folder: rows are published once and never changed, and a folder of another version is refused."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from experiments.runner.results import publish, refuse_other_versions
from experiments.runner.stages import SCHEMA
from experiments.selection import select
from experiments.studies.study import StudyRun
from tests.support import ROOT


@pytest.fixture
def copy(finished_study, tmp_path):
    """The finished study in a folder of this test alone."""
    return replace(finished_study, out=shutil.copytree(finished_study.out, tmp_path / "out"))


def test_every_result_is_in_the_data_set_and_described(finished_study):
    rows, runs = pd.read_parquet(finished_study.out / "rows"), pd.read_parquet(finished_study.out / "runs.parquet")
    assert len(runs) == 6
    assert set(runs["evaluate"]) == set(rows["stage"])
    assert dict(runs.groupby("method")["pretrain"].count()) == {"full": 3, "random": 0}
    described = (ROOT / "docs/reference/rows.md").read_text()
    for column in runs.columns:
        assert f"`{column}`" in described, column
    merged = runs.merge(rows, left_on="evaluate", right_on="stage", suffixes=("", "_of_rows"))
    assert (merged["seed"] == merged["seed_of_rows"]).all()


def test_publishing_again_changes_nothing(copy):
    parts = {path: path.stat().st_mtime_ns for path in copy.out.glob("rows/*/rows.parquet")}
    before = pd.read_parquet(copy.out / "runs.parquet")
    publish(select(copy).all_pipelines, copy.out)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    key = ["method", "seed"]
    after = pd.read_parquet(copy.out / "runs.parquet")
    pd.testing.assert_frame_equal(after.sort_values(key, ignore_index=True), before.sort_values(key, ignore_index=True))


def test_one_evaluation_may_serve_several_studies(copy):
    pipelines = select(copy).all_pipelines
    as_another = [replace(p, run=replace(p.run, study="ablation")) for p in pipelines if p.run.method == "full"]
    assert isinstance(as_another[0].run, StudyRun)
    publish(as_another, copy.out)
    runs = pd.read_parquet(copy.out / "runs.parquet")
    assert runs.groupby("study").size().to_dict() == {"ablation": 3, "comparison": 6}
    assert len(list(copy.out.glob("rows/*"))) == 6


def test_what_is_not_finished_is_not_published(copy):
    pipelines = select(copy).all_pipelines
    shutil.rmtree(pipelines[0].evaluate.folder)
    shutil.rmtree(copy.out / "rows")
    (copy.out / "runs.parquet").unlink()
    publish(pipelines[:1], copy.out)
    assert not (copy.out / "runs.parquet").exists()
    publish(pipelines, copy.out)
    assert len(pd.read_parquet(copy.out / "runs.parquet")) == 5


def test_a_folder_of_another_version_is_refused(copy):
    refuse_other_versions(copy.out)
    refuse_other_versions(copy.out / "nothing here yet")
    stage = sorted(copy.out.glob("stages/*"))[0]
    facts = json.loads((stage / "stage.json").read_text())
    assert facts["schema"] == SCHEMA[facts["kind"]]
    (stage / "stage.json").write_text(json.dumps(facts | {"schema": facts["schema"] - 1}))
    with pytest.raises(
        ValueError, match=rf"{stage.name} was computed by another version, as 1 of .*give another --out"
    ):
        refuse_other_versions(copy.out)


def test_a_table_of_cells_is_refused(tmp_path):
    (tmp_path / "cells.parquet").write_bytes(b"of an older version")
    with pytest.raises(ValueError, match=r"cells\.parquet was written by an older version: give another --out"):
        refuse_other_versions(tmp_path)


@pytest.mark.parametrize("verb", ["plan", "run", "status", "report"])
def test_every_command_refuses_it(verb, store, tmp_path):
    from experiments.__main__ import app

    (tmp_path / "cells.parquet").write_bytes(b"of an older version")
    words = [verb, "comparison", "--store", store.root, "--out", tmp_path, "--preset", "smoke"]
    with pytest.raises(ValueError, match="older version"):
        app(list(map(str, words)), standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.parquet"]
