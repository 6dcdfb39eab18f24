"""The paper's protocol in small: five sources as they are downloaded, one pool, three cohorts, one report."""

import json

import pytest

from experiments.report.study_report import report_study
from experiments.runner.execution import finetune_and_evaluate_once, pretrain_once
from experiments.selection import Request, refuse_leakage, select
from pixelglobal.config import with_settings
from pixelglobal.data.prepare import prepare
from tests import public_layouts as layouts
from tests.support import TINY

pytestmark = pytest.mark.cluster

SHORT = [*TINY, "pretrain.epochs=1", "finetune.epochs=1"]
SOURCES = {
    "ribfrac": "RibFrac",
    "msd": "Organ",
    "totalsegmentator": "TotalSegmentator",
    "amos": "AMOS",
    "flare": "FLARE",
}
HEAD_AND_NECK = ("Mandible", "BrainStem", "LeftParotid", "RightParotid")
FOLDERS = {
    "images": "{case}/ct.nii.gz", "labels": "{case}/{case}_organs.nii.gz",
    "structures": ("Bladder", "Rectum", "LeftFemur", "RightFemur"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return [
        _prepared(getattr(layouts, name)(folder / name, seed), folder / "stores" / name, tiny, name, split="pretrain")
        for seed, name in enumerate(SOURCES, 1)
    ]


@pytest.fixture(scope="module")
def cohorts(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    neck = layouts.nnunet(folder / "neck", 12, name="HeadNeck", structures=HEAD_AND_NECK)
    return [
        _prepared(layouts.kits(folder / "kits19", 11), folder / "stores/kits", tiny, "kits"),
        _prepared(layouts.hospital(folder / "Pelvic", 13), folder / "stores/pelvic", tiny, "folder", layout="folder",
                  **FOLDERS),
        _prepared(neck, folder / "stores/neck", tiny, "nnunet"),
    ]  # fmt: skip


def _prepared(scans, store, tiny, detected, **settings):
    made = prepare(scans, store, with_settings(tiny, prepare=settings).prepare)
    assert not made.quarantined, made.quarantined
    assert f"The layout is {detected}" in made.store.notes
    return made.store


def test_one_pretraining_of_each_method_and_seed_serves_three_cohorts(sources, cohorts, tmp_path):
    request = Request(
        "comparison", SHORT, [store.root for store in cohorts], tmp_path / "out", "smoke", seeds="0,1",
        pretrain_stores=[store.root for store in sources],
    )  # fmt: skip
    selection = select(request)
    refuse_leakage(selection)
    for pipeline in selection.all_pipelines:
        pretrain_once(pipeline)
        finetune_and_evaluate_once(pipeline, request.out)

    pretrainings = [path.parent for path in request.out.glob("stages/pretrain-*/done.json")]
    assert len(pretrainings) == 1 * 2, "one of `full` for each seed; `random` has none"
    assert len(list(request.out.glob("stages/evaluate-*/done.json"))) == 3 * 2 * 2
    for folder in pretrainings:
        model = json.loads((folder / "model/model.json").read_text())
        assert set(model["source_shares"]) == set(SOURCES.values())
        assert set(model["cases_seen"].values()) == {digest for store in sources for digest in store.cases["sha256"]}, (
            "every scan of the five sources, and none of the cohorts'"
        )

    [study] = selection.studies
    made = report_study(study, selection.all_pipelines, request.out / study.name)
    assert list(made.verdicts) == ["KiTS", "Pelvic", "HeadNeck"]
    assert not made.warnings
    page = made.page.read_text()
    assert "No leakage" in page
    assert [f"Pre-training compared on {cohort}" in page for cohort in made.verdicts] == [True] * 3
    assert page.index('data-plot="cohorts"') < page.index("The cohorts side by side") < page.index("Beside the paper")
    for option, stores in (("--pretrain-store", sources), ("--store", cohorts)):
        assert [f"{option} {store.root}" in page for store in stores] == [True] * len(stores)
