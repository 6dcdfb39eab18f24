"""What a plan says of how many runs a study needs, from the runs that are finished."""

import re
from dataclasses import replace

import numpy as np

from experiments.report.sample_size import sample_size, sample_size_sentences
from experiments.selection import select
from experiments.studies import STUDIES
from tests.support import rows_of

STUDY = STUDIES["comparison"]


def test_a_larger_gain_needs_fewer_runs_and_fewer_patients():
    rng = np.random.default_rng(0)
    luck = {(method, seed): 0.02 * rng.normal() for method in ("random", "full") for seed in range(5)}
    rows = rows_of(
        {m: lambda seed, _i, _s, m=m: 0.6 + luck[m, seed] + 0.02 * rng.normal() for m in ("random", "full")},
        seeds=range(5),
    )
    numbers = []
    for gain in (20.0, 4.0, 0.01):
        sentence = sample_size(STUDY, rows, gain)
        assert f"a gain of {gain:g} DSC points takes" in sentence
        assert "power of 80 % over 1 primary contrast" in sentence
        found = re.findall(r"takes ((?:more than )?\d+).* or ((?:more than )?\d+)", sentence)[0]
        numbers.append([10**6 if "more" in number else int(number) for number in found])
    few, more, too_many = numbers
    assert few[0] < more[0] < too_many[0] == 10**6  # beyond what is asked for
    assert few[1] <= more[1] <= too_many[1] == 10**6


def test_too_few_runs_are_no_pilot(finished_study, tmp_path):
    pipelines = select(finished_study).all_pipelines
    two = [pipeline for pipeline in pipelines if pipeline.run.config.seed < 2]
    [sentence] = sample_size_sentences(STUDY, two, 2.0)
    assert "from 2 finished runs of 2 methods; a pilot has 3 runs of two methods" in sentence
    nothing = select(replace(finished_study, out=tmp_path)).all_pipelines
    assert "before some of its runs are finished" in sample_size_sentences(STUDY, nothing, 2.0)[0]
