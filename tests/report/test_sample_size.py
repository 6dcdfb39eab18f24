"""What a plan says of how many runs a study needs, from the runs that are finished."""

import re
from dataclasses import replace

from experiments.report.sample_size import sample_size_sentences
from experiments.selection import select
from experiments.studies import STUDIES

STUDY = STUDIES["comparison"]


def test_finished_runs_are_the_pilot_and_a_larger_gain_needs_fewer_runs(finished_study):
    pipelines = select(finished_study).all_pipelines
    numbers = []
    for gain in (0.05, 20.0):
        [sentence] = sample_size_sentences(STUDY, pipelines, gain)
        assert f"a gain of {gain:g} DSC points takes" in sentence
        assert "power of 80 % over 1 primary contrast" in sentence
        numbers.append(re.findall(r"takes (?:more than )?(\d+).* or (?:more than )?(\d+)", sentence)[0])
    few, many = ([int(n) for n in pair] for pair in reversed(numbers))
    assert all(a <= b for a, b in zip(few, many, strict=True))
    assert few != many


def test_too_few_runs_are_no_pilot(finished_study, tmp_path):
    pipelines = select(finished_study).all_pipelines
    two = [pipeline for pipeline in pipelines if pipeline.run.config.seed < 2]
    [sentence] = sample_size_sentences(STUDY, two, 2.0)
    assert "from 2 finished runs of 2 methods; a pilot has 3 runs of two methods" in sentence
    nothing = select(replace(finished_study, out=tmp_path)).all_pipelines
    assert "before some of its runs are finished" in sample_size_sentences(STUDY, nothing, 2.0)[0]
