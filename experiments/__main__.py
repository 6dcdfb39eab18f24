"""`python -m experiments run|status|report STUDY`: the studies, from the checkout; `bench NAME`: what things cost;
`score` and `significance`: for predictions and rows that were made elsewhere.

The same command again continues: finished stages cost nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments import ablation, comparison, passes, stabilizers
from experiments.bench.commands import app as bench
from experiments.collect import failures
from experiments.grid import Cell, Chain, chain_of, run_grid, start_ray, trials_at_once
from experiments.own_commands import score, significance
from experiments.progress import shown, state_of
from experiments.study_report import report_study
from experiments.terminal import for_terminal
from pixelglobal.config import Config, resolve
from pixelglobal.store import Store

STUDIES = {study.NAME: study for study in (comparison, ablation, passes, stabilizers)}

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(bench, name="bench")
app.command()(score)
app.command()(significance)
console = Console()

StudyName = Annotated[str, typer.Argument(help=f"one of: {', '.join(STUDIES)}")]
Settings = Annotated[list[str] | None, typer.Argument(help="section.name=value, for example pretrain.batch_size=4")]
StoreFolder = Annotated[Path, typer.Option("--store", help="a cohort made by `pixelglobal prepare`")]
Out = Annotated[Path, typer.Option("--out", help="where stages, rows and reports go; shared by all studies")]
Preset = Annotated[str, typer.Option("--preset", help="smoke, small or paper")]
Seeds = Annotated[str, typer.Option("--seeds", help="training runs, for example 0,1,2")]
Methods = Annotated[str | None, typer.Option("--methods", help="for example random,go,gp,gpc,full")]


@app.command()
def run(
    study: StudyName,
    settings: Settings = None,
    store: StoreFolder = Path("store"),
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
) -> None:
    """Run what is missing of a study, then write its report."""
    config, opened, cells = _open(study, settings, store, preset, seeds, methods)
    chains = [chain_of(cell, opened, out) for cell in cells]
    if not all(chain.evaluate.is_complete for chain in chains):
        at_once = trials_at_once(config, config.cluster.finetune_workers, start_ray())
        with shown(chains, console, at_once):
            run_grid(cells, opened, out)
    _show_report(study, chains, opened, out)
    if any(not chain.evaluate.is_complete for chain in chains):
        raise typer.Exit(1)


@app.command()
def status(
    study: StudyName,
    settings: Settings = None,
    store: StoreFolder = Path("store"),
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
) -> None:
    """Print what every cell of a study is doing, and why cells failed."""
    _, opened, cells = _open(study, settings, store, preset, seeds, methods)
    for chain in (chain_of(cell, opened, out) for cell in cells):
        words = [f"{stage.kind}: {state_of(stage)[0]}" for stage in chain.stages]
        console.print(f"{chain.cell.name:32} {'; '.join(words)}", highlight=False)
        if (error := chain.error()) is not None:
            console.print(error, style="red", highlight=False, markup=False)


@app.command()
def report(
    study: StudyName,
    settings: Settings = None,
    store: StoreFolder = Path("store"),
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
) -> None:
    """Write the report of a study from what is finished."""
    _, opened, cells = _open(study, settings, store, preset, seeds, methods)
    _show_report(study, [chain_of(cell, opened, out) for cell in cells], opened, out)


def _open(
    study: str, settings: list[str] | None, store: Path, preset: str, seeds: str, methods: str | None
) -> tuple[Config, Store, list[Cell]]:
    if study not in STUDIES:
        raise ValueError(f"unknown study {study!r}: choose one of {', '.join(STUDIES)}")
    config = resolve(preset, settings or [])
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {seeds!r}: expected whole numbers with commas, for example 0,1,2") from None
    module = STUDIES[study]
    chosen = methods.split(",") if methods else module.METHODS
    return config, Store.open(store), module.cells(config, seeds=numbers, methods=chosen)


def _show_report(study: str, chains: list[Chain], store: Store, out: Path) -> None:
    for note in failures(chains):
        console.print(note, style="red", markup=False)
    made = report_study(STUDIES[study], chains, store, out / study)
    for table in made.tables:
        console.print(for_terminal(table, console.width))
    console.print(f"Report: {made.page.resolve()}", soft_wrap=True, highlight=False)


def main() -> None:
    """The command line; a ValueError is a message for the user, not a traceback."""
    try:
        app(prog_name="python -m experiments")
    except ValueError as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
