"""What a command line selects: studies, cohorts, methods and seeds, as the pipelines of their runs."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.runner.pipeline import Pipeline, pipeline_of
from experiments.studies import STUDIES
from experiments.studies.study import Study, StudyRun
from pixelglobal.config.overrides import resolve
from pixelglobal.config.schema import Config
from pixelglobal.data.leakage import refuse_shared_scans
from pixelglobal.data.pool import refuse_different_preparation
from pixelglobal.data.store import Store
from pixelglobal.training.pretrain import pretraining_cases

# The parameters that plan, register, run, status and report have in common.
StudyName = Annotated[str, typer.Argument(help=f"One of: {', '.join(STUDIES)}, all.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="SECTION.NAME=VALUE", help="Settings, for example pretrain.batch_size=4."),
]
Stores = Annotated[
    list[Path] | None,
    typer.Option(
        "--store", help="A cohort that `pixelglobal prepare` has written. Give it again for more. [default: store]"
    ),
]
PretrainStores = Annotated[
    list[Path] | None,
    typer.Option(
        "--pretrain-store",
        help="A prepared cohort whose pretrain split is pre-trained on. Give it again for more: all cohorts then share "
        "one pre-training for each method and seed. [default: each --store its own]",
    ),
]
TestStores = Annotated[
    list[Path] | None,
    typer.Option(
        "--test-store",
        help="A prepared external cohort: the models of every --store with its structures are tested on it, too.",
    ),
]
Out = Annotated[Path, typer.Option(help="The folder of stages, rows and reports, which studies share.")]
Preset = Annotated[str, typer.Option(help="The settings to begin with: smoke, small or paper.")]
Seeds = Annotated[str, typer.Option(help="The training runs of each method, for example 0,1,2.")]
Methods = Annotated[
    str | None, typer.Option(help="The methods, for example random,go,gp,gpc,full. [default: the study's own]")
]
Fractions = Annotated[
    str | None, typer.Option(help="Shares of the training patients whose labels low_data uses, for example 0.1,0.5,1.")
]


@dataclass(frozen=True)
class Request:
    """The words of a command line, before anything is read."""

    study: str  # a name, or all
    overrides: Sequence[str] = ()
    stores: Sequence[Path] = (Path("store"),)
    out: Path = Path("runs")
    preset: str = "small"
    seeds: str = "0,1,2"
    methods: str | None = None
    fractions: str | None = None
    pretrain_stores: Sequence[Path] = ()
    test_stores: Sequence[Path] = ()


def request_of(
    study: StudyName,
    overrides: Overrides = None,
    store: Stores = None,
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
    fractions: Fractions = None,
    pretrain_store: PretrainStores = None,
    test_store: TestStores = None,
) -> Request:
    """The parameters that the commands of a study share, as one request."""
    return Request(
        study, overrides or (), store or (Path("store"),), out, preset, seeds, methods, fractions,
        pretrain_store or (), test_store or (),
    )  # fmt: skip


def of_a_study(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes a Request, and perhaps more, the parameters of `request_of` in its place."""
    shared = inspect.signature(request_of, eval_str=True).parameters
    _, *others = inspect.signature(command, eval_str=True).parameters.values()

    def called(**words: Any) -> None:
        command(request_of(**{name: words.pop(name) for name in shared}), **words)

    parameters = [*shared.values(), *others]
    called.__name__, called.__doc__, called.__module__ = command.__name__, command.__doc__, command.__module__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


@dataclass(frozen=True)
class Selection:
    """The runs of one study or of all, with the stages that they need."""

    name: str  # of the study, or all
    config: Config  # that every run begins with
    out: Path
    pipelines: dict[str, list[Pipeline]]  # of each study

    @property
    def all_pipelines(self) -> list[Pipeline]:
        """Of all studies together."""
        return [pipeline for of_study in self.pipelines.values() for pipeline in of_study]

    @property
    def studies(self) -> list[Study]:
        """The studies that are selected."""
        return [STUDIES[name] for name in self.pipelines]


def select(request: Request) -> Selection:
    """The runs that a command line means; nothing is computed. Raises ValueError with what is wrong with its words."""
    studies = _studies(request)
    config = resolve(request.preset, request.overrides)
    if config.evaluate.split != "test":
        raise ValueError(
            f"evaluate.split={config.evaluate.split}: studies are about test patients; fine-tuning has seen the others"
        )
    stores = [_opened(folder, bool(request.test_stores)) for folder in request.stores]
    pool = [Store.open(folder) for folder in request.pretrain_stores]
    test_stores = [_tested(folder) for folder in request.test_stores]
    seeds = _whole_numbers("--seeds", request.seeds)
    fractions = _numbers("--fractions", request.fractions) if request.fractions else []
    methods = request.methods.split(",") if request.methods else []
    pipelines = {}
    for study in studies:
        shares = fractions if study.label_fractions else []
        runs = study.runs(
            config, stores, seeds=seeds, methods=methods, fractions=shares, pool=pool, test_stores=test_stores
        )
        refuse_equal_names([run.name for run in runs])
        for run in runs:
            refuse_different_preparation([run.store, *run.pool, *([run.test_store] if run.test_store else [])])
        pipelines[study.name] = [pipeline_of(run, request.out) for run in runs]
    _refuse_unused_pool(request, [pipeline.run for of_study in pipelines.values() for pipeline in of_study])
    return Selection(request.study, config, request.out, pipelines)


def refuse_equal_names(names: Sequence[str]) -> None:
    """Raise ValueError if two runs would have one name, which also names their trials and figures."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(
            f"{len(repeated)} runs have the name of another, the first: {repeated[0]}. Give every seed, method and "
            "--store once, and cohorts whose names differ in latin letters or digits (`name` in dataset.json)"
        )


def _studies(request: Request) -> list[Study]:
    if request.study not in STUDIES and request.study != "all":
        raise ValueError(f"unknown study {request.study!r}: choose one of {', '.join(STUDIES)}, or all")
    if request.methods and request.study == "all":
        raise ValueError("--methods belongs to one study; with all, every study runs its own")
    studies = [STUDIES[request.study]] if request.study in STUDIES else [one for one in STUDIES.values() if one.in_all]
    if request.fractions and not any(study.label_fractions for study in studies):
        raise ValueError(f"--fractions belongs to low_data; {request.study} uses finetune.patients=NUMBER")
    return studies


def _opened(folder: Path, tested_elsewhere: bool) -> Store:
    """A cohort to fine-tune on. Only with an external test set it needs no test patients of its own."""
    store = Store.open(folder)
    needed = ("train", "validation") if tested_elsewhere else ("train", "validation", "test")
    if empty := [name for name in needed if not getattr(store.splits, name)]:
        raise ValueError(
            f"{store.root} has no labelled patients in {', '.join(empty)}: a study fine-tunes, stops early and "
            "tests; prepare a cohort with labels, or other prepare.train_fraction and prepare.validation_fraction. "
            "A cohort for testing alone is a --test-store, one for pre-training alone a --pretrain-store"
        )
    return store


def _tested(folder: Path) -> Store:
    store = Store.open(folder)
    if not store.splits.test:
        raise ValueError(
            f"{store.root} has no labelled patients in test; prepare it with prepare.train_fraction=0 and "
            "prepare.validation_fraction=0, so that all are test patients"
        )
    return store


def refuse_leakage(selection: Selection) -> None:
    """Raise ValueError if a pool holds a scan that any cohort of a study validates or tests on, or an external test set
    one that a tested model is trained on: by its voxels, or nearer than two patients are."""
    looked: set[tuple[Path, Path]] = set()
    for run in (pipeline.run for pipeline in selection.all_pipelines if pipeline.run.pool or pipeline.run.test_store):
        splits, external = run.tested.splits, run.test_store is not None
        if run.pool and (key := (run.pool[0].root, run.tested.root)) not in looked:
            looked.add(key)
            held_out = splits.test if external else (*splits.validation, *splits.test)
            refuse_shared_scans(run.tested, held_out, run.scans, pretraining_cases(run.config, run.scans))
        if external and (key := (run.store.root, run.tested.root)) not in looked:
            looked.add(key)
            of_store = run.store.splits
            seen = {*of_store.train, *of_store.validation, *(() if run.pool else of_store.pretrain)}
            refuse_shared_scans(run.tested, splits.test, run.store, sorted(seen))


def _refuse_unused_pool(request: Request, runs: Sequence[StudyRun]) -> None:
    if request.pretrain_stores and not any(run.pool for run in runs):
        raise ValueError(
            f"--pretrain-store has no effect on {request.study}: pretrain.cases=train pre-trains each cohort on its "
            "own training patients. Leave one of them out"
        )


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected whole numbers with commas, for example 0,1,2") from None


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected numbers with commas, for example 0.1,0.5,1") from None
