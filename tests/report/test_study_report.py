"""A study's report: the verdict first, and nothing that would make its numbers useless goes unseen."""

import json
import shutil
from dataclasses import replace

import pytest

from experiments.report.study_report import report_study
from experiments.selection import select
from experiments.studies import STUDIES
from tests.support import make_leakage


@pytest.fixture
def copy(finished_study, tmp_path):
    """The finished study in a folder of this test alone."""
    return replace(finished_study, out=shutil.copytree(finished_study.out, tmp_path / "out"))


def command(verb, request):
    """`python -m experiments VERB` in this process."""
    from experiments.__main__ import app

    words = [verb, request.study, "--out", request.out, "--preset", request.preset, "--seeds", request.seeds]
    words += [word for store in request.stores for word in ("--store", store)]
    app([*map(str, words), *request.overrides], standalone_mode=False)


def test_the_verdict_is_the_first_line_of_page_and_terminal_and_a_file(copy, capsys):
    command("report", copy)
    printed = capsys.readouterr().out
    page = (copy.out / "comparison/report.html").read_text()
    values = json.loads((copy.out / "comparison/verdict.json").read_text())
    verdict = values["cohorts"]["Phantom"]
    assert verdict["state"] in ("reproduced", "not reproduced", "undecided")
    assert verdict["contrasts"][0]["n_runs"] == 3
    assert values["criterion"] == STUDIES["comparison"].criterion
    words = f"{verdict['state'].capitalize()}: {verdict['reason']}"
    assert printed.startswith(f"Pre-training compared on Phantom. {words}\n")
    body = page[page.index("</h1>") :]
    assert body.index('<p class="verdict">') < body.index('<p class="question">') < body.index("<table")
    assert verdict["state"].capitalize() in body[: body.index("</p>")]
    assert "what the verdict rests on" in page
    assert page.count("<li>The highest DSC (%) that the stored grid allows, mean over the scans of the cohort: Bl") == 1
    assert "The paper says: Ours beats random initialisation by 14.93 %" in page
    assert "Reproduced, if a gain of full over random in average DSC is shown" in page
    assert "The training run and the patient, by 3-D Dice on the original grid." in page
    assert '<li class="alarm">' not in page


def test_leakage_and_missing_runs_are_alarms_on_the_page_and_on_the_terminal(copy, capsys):
    pipelines = select(copy).all_pipelines
    case = make_leakage(pipelines[4])
    shutil.rmtree(pipelines[5].evaluate.folder)
    command("report", copy)
    printed = " ".join(capsys.readouterr().out.split())
    page = (copy.out / "comparison/report.html").read_text()
    said = f"LEAKAGE: test scans were seen in training: {case} as another.nii in comparison-full-phantom-seed1"
    assert printed.startswith(said)
    alarm = page[page.index('<li class="alarm">') :]
    assert said in alarm[: alarm.index("</li>")]
    assert "These results must not be used." in alarm[: alarm.index("</li>")]
    assert "No leakage" not in page + printed
    missing = "comparison-full-phantom-seed2 has no result: it has not run"
    assert printed.index(said) < printed.index(missing) < printed.index("Undecided: full against random has 2 runs")
    assert page.index(said) < page.index(missing) < page.index("<table")


def test_two_cohorts_have_a_verdict_each(copy):
    pipelines = select(copy).all_pipelines
    second = [replace(p, run=replace(p.run, cohort="Second")) for p in pipelines]
    made = report_study(STUDIES["comparison"], [*pipelines, *second], copy.out / "comparison")
    assert list(made.verdicts) == ["Phantom", "Second"]
    page = made.page.read_text()
    first = {cohort: f'<p class="verdict">{v.state.capitalize()} on {cohort}: ' for cohort, v in made.verdicts.items()}
    assert [words in page for words in first.values()] == [True, True]
