"""A study that is registered before its runs: what was done as registered, and each way in which it was not."""

import json
import os
import shutil
import time
from dataclasses import replace

import pytest

from experiments.runner.registration import compared_with_registration, register
from experiments.selection import select
from experiments.studies import STUDIES
from experiments.studies.verdict import Contrast, GainRule

STUDY = STUDIES["comparison"]


@pytest.fixture
def registered(finished_study, tmp_path):
    """A study that was registered, and then run."""
    request = replace(finished_study, out=tmp_path / "out")
    register(STUDY, select(request).all_pipelines, request.out)
    shutil.copytree(finished_study.out / "stages", request.out / "stages", copy_function=shutil.copyfile)
    for path in request.out.glob("stages/*/stage.json"):
        os.utime(path, (time.time() + 5, time.time() + 5))
    return request


def said_of(request, study=STUDY):
    return compared_with_registration(study, select(request).all_pipelines, request.out)


def test_what_was_done_as_registered_says_so(registered):
    said, deviations = said_of(registered)
    assert said.startswith("Done as registered on 20")
    assert deviations == []


def test_a_study_without_a_registration_says_nothing(finished_study):
    assert said_of(finished_study) == ("", [])


def test_the_same_registration_again_changes_nothing_and_another_is_refused(registered):
    path = registered.out / "registrations" / "comparison.json"
    shutil.rmtree(registered.out / "stages")
    before = path.read_text()
    assert register(STUDY, select(registered).all_pipelines, registered.out) == path
    assert path.read_text() == before
    with pytest.raises(ValueError, match="registers comparison with other runs or rules"):
        register(STUDY, select(replace(registered, seeds="0,1")).all_pipelines, registered.out)


def test_nothing_is_registered_afterwards(finished_study, tmp_path):
    request = replace(finished_study, out=shutil.copytree(finished_study.out, tmp_path / "late"))
    with pytest.raises(ValueError, match=r"15 of the 15 stages of comparison are computed.*before anything is trained"):
        register(STUDY, select(request).all_pipelines, request.out)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": "0,1"}, "2 runs are registered and without a result: comparison-random-phantom-seed2, comp"),
        ({"seeds": "0,1,2,3"}, "2 runs are not registered: comparison-random-phantom-seed3, comparison-full"),
        ({"overrides": "more"}, "6 runs are run with other settings, training data or test patients"),
    ],
)
def test_other_runs_are_deviations(registered, change, sentence):
    if "overrides" in change:
        change = {"overrides": [*registered.overrides, "finetune.dice_weight=0.25"]}
    said, deviations = said_of(replace(registered, **change))
    assert said.startswith("Not done as registered on 20")
    assert any(sentence in deviation for deviation in deviations), deviations


def test_other_contrasts_and_another_rule_are_deviations(registered):
    other = replace(STUDY, contrasts=(Contrast("random", "full"),), rule=GainRule(smallest_gain_points=0.1))
    _, deviations = said_of(registered, other)
    assert any("contrasts is not the registered one: full - random then, random - full now" in d for d in deviations)
    assert any(d.startswith("The rule is not the registered one") for d in deviations)


def test_a_run_begun_before_the_registration_is_a_deviation(registered):
    stage = next(registered.out.glob("stages/pretrain-*/stage.json"))
    os.utime(stage, (1, 1))
    assert any("begun before the registration" in deviation for deviation in said_of(registered)[1])


def test_a_registration_that_was_edited_is_a_deviation(registered):
    path = registered.out / "registrations" / "comparison.json"
    record = json.loads(path.read_text())
    record["plan"]["seeds"] = [0]
    path.write_text(json.dumps(record))
    assert any("was changed after it was written" in deviation for deviation in said_of(registered)[1])
    path.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as a registration"):
        said_of(registered)
