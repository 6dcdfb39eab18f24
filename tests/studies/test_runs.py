"""Runs of studies: names, configs, what studies share with each other, and prose that says so."""

from dataclasses import replace

import pytest

from experiments.runner.pipeline import pipeline_of
from experiments.runner.stages import pretrain_stage
from experiments.selection import refuse_equal_names
from experiments.studies import STUDIES
from experiments.studies.grid import method_config
from pixelglobal import config as settings
from pixelglobal.methods.byol import Byol

ablation, comparison, low_data = STUDIES["ablation"], STUDIES["comparison"], STUDIES["low_data"]
passes, semi_supervised, stabilizers = STUDIES["passes"], STUDIES["semi_supervised"], STUDIES["stabilizers"]


class Mine(Byol):
    """A method from outside the library."""

    name = "mine"


MINE = "tests.studies.test_runs:Mine"


def test_runs_are_named_for_people_and_unknown_methods_refused(tiny, store):
    names = [run.name for run in comparison.runs(tiny, [store], seeds=[0, 1])]
    assert names == [f"comparison-{m}-phantom-seed{s}" for m in ("random", "full") for s in (0, 1)]
    [mine] = comparison.runs(tiny, [store], seeds=[0], methods=[MINE])
    assert (mine.name, mine.config.pretrain.method) == ("comparison-Mine-phantom-seed0", MINE)
    twins = comparison.runs(tiny, [store, replace(store, root=store.root / "again")], seeds=[0], methods=["full"])
    assert len({run.name for run in twins}) == 2
    few = low_data.runs(tiny, [store], seeds=[0], fractions=[0.1, 0.5, 1])
    assert [run.name for run in few[:2]] == [f"low_data-random-{n}patients-phantom-seed0" for n in (1, 2)]
    with pytest.raises(ValueError, match=r"--fractions 1.5: a share of the training patients is above 0 and at most 1"):
        low_data.runs(tiny, [store], seeds=[0], fractions=[1.5])
    with pytest.raises(ValueError, match="unknown method 'ours': choose from random, imagenet, go, gp, gpc, full"):
        comparison.runs(tiny, [store], seeds=[0], methods=["ours"])


def test_every_seed_is_a_run_of_its_own_with_everything_else_equal(tiny, store):
    first, second = comparison.runs(tiny, [store], seeds=[3, 4], methods=["full"])
    assert (first.config.seed, second.config.seed) == (3, 4)
    assert first.config.model_copy(update={"seed": 4}) == second.config


def test_a_study_refuses_the_methods_of_another(tiny, store):
    with pytest.raises(ValueError, match=r"unknown method 'passes5': choose from random, imagenet, go, .*gl"):
        ablation.runs(tiny, [store], seeds=[0], methods=["passes5"])


def test_runs_of_one_name_are_refused(tiny, store):
    runs = ablation.runs(tiny, [store], seeds=[0, 0], methods=["go"])
    with pytest.raises(ValueError, match="1 runs have the name of another, the first: ablation-go-phantom-seed0"):
        refuse_equal_names([run.name for run in runs])


def test_a_run_trains_what_its_name_says(tiny):
    mine = settings.with_settings(tiny, pretrain={"method": MINE}, mine={"hidden": 4})
    for name, expected in (("full", "pixel_global"), ("random", "pixel_global"), ("gl", "gl")):
        assert method_config(mine, name).pretrain.method == expected
    assert method_config(mine, MINE).methods["mine"].hidden == 4


def test_studies_share_what_is_the_same(tiny, store, tmp_path):
    """comparison, ablation and passes at one seed: 5 + 4 + 5 runs, but each distinct pre-training is there once."""

    def pretrainings(study, methods=()):
        runs = study.runs(tiny, [store], seeds=[0], methods=methods)
        return {run.method: pipeline_of(run, tmp_path).pretrain for run in runs}

    assert "those that comparison has, too, are shared with it" in ablation.cost
    assert "No pre-training beyond those of comparison" in low_data.cost
    assert "of which the share 1 is that of comparison" in low_data.cost
    assert "Nothing is shared with comparison" in semi_supervised.cost
    compared = pretrainings(comparison, ["random", "go", "gp", "gpc", "full"])
    ablated, passed = pretrainings(ablation), pretrainings(passes)
    assert compared["random"] is None
    names = {stage.name for grid in (compared, ablated, passed) for stage in grid.values() if stage is not None}
    # go, gp, gpc, full (which has 2 passes in this config), and 5, 10, 20 passes.
    assert len(names) == 7
    assert {m: s.name for m, s in ablated.items()} == {m: compared[m].name for m in ablation.methods}
    assert passed["passes2"].name == compared["full"].name
    assert passed["gpc"].name == compared["gpc"].name
    read = pretrainings(stabilizers)
    for method in ("go", "gp", "gpc_hinge", "full_hinge"):  # the hinge is the config's reading
        assert read[method].name == compared[method.removesuffix("_hinge")].name
    assert len({stage.name for stage in read.values() if stage is not None} - names) == 4
    few = [pipeline_of(run, tmp_path) for run in low_data.runs(tiny, [store], seeds=[0])]
    assert {p.pretrain.name for p in few if p.pretrain} == {compared["full"].name}
    whole = [pipeline_of(run, tmp_path) for run in comparison.runs(tiny, [store], seeds=[0])]
    assert {p.finetune.name for p in whole} < {p.finetune.name for p in few}  # all patients are all patients
    alone = [pipeline_of(run, tmp_path) for run in semi_supervised.runs(tiny, [store], seeds=[0])]
    assert not {s.name for p in alone for s in p.stages} & {s.name for p in whole for s in p.stages}


@pytest.mark.parametrize("preset", settings.PRESETS)
def test_what_a_study_says_that_it_shares_is_so(preset, store, tmp_path):
    """The costs of passes and stabilizers name presets: read them, and look at the addresses."""

    def pretrainings(study):
        runs = study.runs(settings.resolve(preset), [store], seeds=[0])
        return {run.method: pretrain_stage(tmp_path, run.config, store).name for run in runs if run.pretrained}

    ablated, passed, read = (pretrainings(study) for study in (ablation, passes, stabilizers))
    assert "gpc, which has no passes, is shared with ablation" in passes.cost
    assert passed["gpc"] == ablated["gpc"]
    assert "passes20 is the full method of ablation in presets paper and paper_literal alone" in passes.cost
    assert (passed["passes20"] == ablated["full"]) == preset.startswith("paper")
    assert "(printed in paper_literal, hinge in the others)" in stabilizers.cost
    reading = "printed" if preset == "paper_literal" else "hinge"
    assert "8 pre-trainings for each seed" in stabilizers.cost
    assert len(set(read.values())) == 8
    assert "Four of them are shared with ablation: go, gp, and gpc and full in the reading" in stabilizers.cost
    shared = {method for method, name in read.items() if name in ablated.values()}
    assert shared == {"go", "gp", f"gpc_{reading}", f"full_{reading}"}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_is_about_its_own_methods(study):
    assert study.reference in study.methods
    for contrast in study.contrasts:
        assert {contrast.method, contrast.baseline} <= set(study.methods)
    assert any(contrast.primary for contrast in study.contrasts)
    assert set(study.variations) <= set(study.methods)
    for text in (study.question, study.unit_of_analysis, study.cost, study.paper_says, study.criterion):
        assert text.endswith((".", "?"))


def test_what_is_tested_follows_the_methods_that_ran():
    assert [str(c) for c in ablation.contrasts] == ["gp against go", "gpc against gp", "full against gpc"]
    compared = [(str(c), c.primary) for c in comparison.contrasts_among(["random", "gl", "pgl", "full"])]
    assert compared == [("full against random", True), ("full against gl", False), ("full against pgl", False)]
    assert [str(c) for c in stabilizers.contrasts if c.primary] == ["gpc_printed against gp"]
    with_few = stabilizers.contrasts_among(["gp", "gpc_printed", "full_printed"])
    assert [str(c) for c in with_few] == ["gpc_printed against gp", "full_printed against gpc_printed"]
    assert [str(c) for c in comparison.contrasts_among(["gl", "pgl"])] == ["full against random"]  # still to be shown


def test_a_structure_without_a_tolerance_is_found_before_anything_is_trained(tiny, store):
    known = dict.fromkeys(store.structures, 2.0)
    config = settings.with_settings(tiny, evaluate={"surface_tolerance_mm": known})
    assert STUDIES["comparison"].runs(config, [store], seeds=[0])
    del known[store.structures[0]]
    config = settings.with_settings(tiny, evaluate={"surface_tolerance_mm": known})
    with pytest.raises(ValueError, match=f"no value for {store.structures[0]}, only for {store.structures[1]}"):
        STUDIES["comparison"].runs(config, [store], seeds=[0])
