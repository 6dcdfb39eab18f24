"""`python -m experiments run|status|report STUDY|all`: the studies, from the checkout; `bench NAME`: what things cost;
`score` and `significance`: for predictions and rows that were made elsewhere.

The same command again continues: finished stages cost nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from experiments import ablation, comparison, low_data, passes, semi_supervised, stabilizers
from experiments.bench.commands import app as bench
from experiments.browse import reports_of, server_of
from experiments.collect import failures, finished
from experiments.grid import Cell, Chain, chain_of, run_grid, start_ray, trials_at_once
from experiments.own_commands import score, significance
from experiments.plan import make_plan, show_plan
from experiments.progress import counts, overview, shown
from experiments.rows import publish
from experiments.study_report import report_study
from experiments.terminal import for_terminal
from pixelglobal.config import Config, resolve
from pixelglobal.store import Store

STUDIES = {s.NAME: s for s in (comparison, ablation, semi_supervised, low_data, passes, stabilizers)}

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(bench, name="bench")
app.command()(score)
app.command()(significance)
console = Console()

StudyName = Annotated[str, typer.Argument(help=f"one of: {', '.join(STUDIES)}, all")]
Settings = Annotated[list[str] | None, typer.Argument(help="section.name=value, for example pretrain.batch_size=4")]
Stores = Annotated[
    list[Path] | None, typer.Option("--store", help="a cohort of `pixelglobal prepare`; may be given again")
]
Out = Annotated[Path, typer.Option("--out", help="where stages, rows and reports go; shared by all studies")]
Preset = Annotated[str, typer.Option("--preset", help="smoke, small or paper")]
Seeds = Annotated[str, typer.Option("--seeds", help="training runs, for example 0,1,2")]
Methods = Annotated[str | None, typer.Option("--methods", help="for example random,go,gp,gpc,full")]
Fractions = Annotated[str | None, typer.Option("--fractions", help="of the training patients, for low_data: 0.1,0.5,1")]


@app.command()
def run(
    study: StudyName,
    settings: Settings = None,
    store: Stores = None,
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
    fractions: Fractions = None,
) -> None:
    """Run what is missing of a study, then write its report."""
    config, grids = _open(study, settings, store, preset, seeds, methods, fractions)
    chains = _chains(grids, out)
    everything = [chain for own in chains.values() for chain in own]
    if not all(chain.evaluate.is_complete for chain in everything):
        at_once = trials_at_once(config, config.cluster.finetune_workers, start_ray())
        with shown(everything, console, at_once):
            run_grid([chain.cell for chain in everything], out)
    publish(everything, out)
    _show_reports(chains, out)
    if any(not chain.evaluate.is_complete for chain in everything):
        raise typer.Exit(1)


@app.command()
def plan(
    study: StudyName,
    settings: Settings = None,
    store: Stores = None,
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
    fractions: Fractions = None,
    price_per_hour: Annotated[float | None, typer.Option(help="of a GPU, or of a CPU core without one")] = None,
    calibrate: Annotated[bool, typer.Option(help="measure a few steps of work that never ran here")] = True,
) -> None:
    """Print what a study will compute, what is there already, and what the rest costs; trains nothing."""
    _, grids = _open(study, settings, store, preset, seeds, methods, fractions)
    chains = [chain for own in _chains(grids, out).values() for chain in own]
    console.print("measuring a few steps of what never ran here ..." if calibrate else "", style="dim")
    made = make_plan(chains, out, calibrate=calibrate)
    made.save(out / "plans" / f"{study}.json")
    show_plan(made, console, price_per_hour)


@app.command()
def status(
    study: StudyName,
    settings: Settings = None,
    store: Stores = None,
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
    fractions: Fractions = None,
    watch: Annotated[bool, typer.Option(help="look again every 5 seconds until all is done or failed")] = False,
) -> None:
    """Print what every cell of a study is doing, the best so far, how long is left, and why cells failed."""
    _, grids = _open(study, settings, store, preset, seeds, methods, fractions)
    chains = [chain for own in _chains(grids, out).values() for chain in own]
    while True:
        if watch:
            console.clear()
        console.print(overview(chains))
        console.print(counts(chains), highlight=False)
        if not watch or all(chain.evaluate.is_complete or chain.error() for chain in chains):
            break
        time.sleep(5)
    for chain in chains:
        if (error := chain.error()) is not None:
            console.print(f"{chain.cell.name} failed:", style="bold red", highlight=False)
            console.print(error, style="red", highlight=False, markup=False)


@app.command()
def report(
    study: StudyName,
    settings: Settings = None,
    store: Stores = None,
    out: Out = Path("runs"),
    preset: Preset = "small",
    seeds: Seeds = "0,1,2",
    methods: Methods = None,
    fractions: Fractions = None,
) -> None:
    """Write the report of a study from what is finished."""
    _, grids = _open(study, settings, store, preset, seeds, methods, fractions)
    _show_reports(_chains(grids, out), out)


@app.command()
def browse(
    out: Out = Path("runs"), port: Annotated[int, typer.Option(help="of 127.0.0.1; 0 takes a free one")] = 8100
) -> None:
    """Serve the reports of a folder to this machine's browser, and say how to see the trials in TensorBoard."""
    if not reports_of(out):
        raise ValueError(f"no study in {out.resolve()} has a report yet: run one, or give another --out")
    server = server_of(out, port)
    console.print(f"http://127.0.0.1:{server.server_port}/ shows {', '.join(p.parent.name for p in reports_of(out))}")
    console.print(f"tensorboard --logdir {out / 'tune'}    shows the trials; Ctrl-C ends this", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def _open(
    study: str,
    settings: list[str] | None,
    stores: list[Path] | None,
    preset: str,
    seeds: str,
    methods: str | None,
    fractions: str | None,
) -> tuple[Config, dict[str, list[Cell]]]:
    """The settings that all cells begin with, and the cells of each study."""
    if study not in STUDIES and study != "all":
        raise ValueError(f"unknown study {study!r}: choose one of {', '.join(STUDIES)}, or all")
    if methods and study == "all":
        raise ValueError("--methods belongs to one study; with all, every study runs its own")
    if fractions and study not in ("low_data", "all"):
        raise ValueError(f"--fractions belongs to low_data; {study} uses finetune.patients=NUMBER")
    config = resolve(preset, settings or [])
    wanted = [STUDIES[study]] if study in STUDIES else list(STUDIES.values())
    opened = [Store.open(folder) for folder in stores or [Path("store")]]
    numbers = [int(seed) for seed in _numbers("--seeds", seeds, "0,1,2", int)]
    grids = {}
    for module in wanted:
        more: dict[str, Any] = {}
        if fractions and module is low_data:
            more["fractions"] = _numbers("--fractions", fractions, "0.1,0.5,1", float)
        chosen = methods.split(",") if methods else module.METHODS
        grids[module.NAME] = module.cells(config, opened, seeds=numbers, methods=chosen, **more)
    return config, grids


def _numbers(option: str, text: str, example: str, kind: type) -> list[float]:
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text!r}: expected {whole} with commas, for example {example}") from None


def _chains(grids: dict[str, list[Cell]], out: Path) -> dict[str, list[Chain]]:
    return {study: [chain_of(cell, out) for cell in cells] for study, cells in grids.items()}


def _show_reports(chains: dict[str, list[Chain]], out: Path) -> None:
    for study, own in chains.items():
        for note in failures(own):
            console.print(note, style="red", markup=False)
        if len(chains) > 1 and not finished(own):
            continue  # of several studies some have results
        made = report_study(STUDIES[study], own, out / study)
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
