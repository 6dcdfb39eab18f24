"""The words that `plan`, `run`, `status` and `report` have in common, and the cells that they ask for."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.runner.runs import Chain, chain_of
from experiments.studies import ablation, comparison, low_data, passes, semi_supervised, stabilizers
from pixelglobal.config.overrides import resolve
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

STUDIES = {s.NAME: s for s in (comparison, ablation, semi_supervised, low_data, passes, stabilizers)}


@dataclass(frozen=True)
class Asked:
    """The cells of one study or of all, with the stages that they need."""

    study: str  # a name, or all
    config: Config  # that every cell begins with
    out: Path
    chains: dict[str, list[Chain]]  # of each study

    @property
    def all_chains(self) -> list[Chain]:
        """Of all studies together."""
        return [chain for own in self.chains.values() for chain in own]


def asked_for(
    study: Annotated[str, typer.Argument(help=f"one of: {', '.join(STUDIES)}, all")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="section.name=value, for example pretrain.batch_size=4")
    ] = None,
    store: Annotated[
        list[Path] | None, typer.Option("--store", help="a cohort of `pixelglobal prepare`; may be given again")
    ] = None,
    out: Annotated[Path, typer.Option(help="where stages, rows and reports go; shared by all studies")] = Path("runs"),
    preset: Annotated[str, typer.Option(help="smoke, small or paper")] = "small",
    seeds: Annotated[str, typer.Option(help="training runs, for example 0,1,2")] = "0,1,2",
    methods: Annotated[str | None, typer.Option(help="for example random,go,gp,gpc,full")] = None,
    fractions: Annotated[str | None, typer.Option(help="of the training patients, for low_data: 0.1,0.5,1")] = None,
) -> Asked:
    """The cells that a command line means. Raises ValueError with what is wrong with its words."""
    if study not in STUDIES and study != "all":
        raise ValueError(f"unknown study {study!r}: choose one of {', '.join(STUDIES)}, or all")
    if methods and study == "all":
        raise ValueError("--methods belongs to one study; with all, every study runs its own")
    if fractions and study not in ("low_data", "all"):
        raise ValueError(f"--fractions belongs to low_data; {study} uses finetune.patients=NUMBER")
    config = resolve(preset, settings or [])
    wanted = [STUDIES[study]] if study in STUDIES else list(STUDIES.values())
    if config.evaluate.split != "test":
        raise ValueError(
            f"evaluate.split={config.evaluate.split}: studies are about test patients; fine-tuning has seen the others"
        )
    opened = [Store.open(folder) for folder in store or [Path("store")]]
    for one in opened:
        if empty := [name for name in ("train", "validation", "test") if not getattr(one.splits, name)]:
            raise ValueError(
                f"{one.root} has no labelled patients in {', '.join(empty)}: a study fine-tunes, stops early and "
                "tests; prepare a cohort with labels, or other prepare.train_fraction and prepare.validation_fraction"
            )
    numbers = [int(seed) for seed in _numbers("--seeds", seeds, "0,1,2", int)]
    chains = {}
    for module in wanted:
        more: dict[str, Any] = {}
        if fractions and module is low_data:
            more["fractions"] = _numbers("--fractions", fractions, "0.1,0.5,1", float)
        chosen = methods.split(",") if methods else module.METHODS
        cells = module.cells(config, opened, seeds=numbers, methods=chosen, **more)
        refuse_twins([cell.name for cell in cells])
        chains[module.NAME] = [chain_of(cell, out) for cell in cells]
    return Asked(study, config, out, chains)


def refuse_twins(names: Sequence[str]) -> None:
    """Raise ValueError if two cells would have one name, which also names their trials and figures."""
    if twins := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(
            f"{len(twins)} cells have the name of another, the first: {twins[0]}. Give every seed, method and --store "
            "once, and cohorts whose names differ in latin letters or digits (`name` in dataset.json)"
        )


def takes_a_study(body: Callable[..., None]) -> Callable[..., None]:
    """Make a command of `body(asked, ...)`: its words are those of `asked_for`, then the body's own."""
    shared = inspect.signature(asked_for, eval_str=True).parameters
    _, *own = inspect.signature(body, eval_str=True).parameters.values()

    @functools.wraps(body)
    def command(**words: Any) -> None:
        asked = asked_for(**{name: words.pop(name) for name in shared})
        body(asked, **words)

    command.__signature__ = inspect.Signature([*shared.values(), *own])  # type: ignore[attr-defined]
    return command


def _numbers(option: str, text: str, example: str, kind: type) -> list[float]:
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text!r}: expected {whole} with commas, for example {example}") from None
