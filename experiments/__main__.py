"""`python -m experiments run|status|report STUDY`: the studies, from the checkout; `bench NAME`: what things cost;
`score` and `significance`: for predictions and rows that were made elsewhere.

The same command again continues: finished stages cost nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments import comparison
from experiments.bench.commands import app as bench
from experiments.collect import (
    cell_table,
    curves_of,
    environment_of,
    failures,
    finished,
    leakage_note,
    overlays_of,
    rows_of,
    rows_path,
    uncertainty_of,
)
from experiments.figures import draw_curves, draw_overlays, draw_patients, draw_uncertainty
from experiments.grid import Cell, Chain, chain_of, run_grid, start_ray, trials_at_once
from experiments.own_commands import score, significance
from experiments.progress import shown, state_of
from experiments.report import Picture, write_report
from experiments.tables import comparison_table
from experiments.terminal import for_terminal
from pixelglobal.config import Config, resolve
from pixelglobal.store import Store

STUDIES = {comparison.NAME: comparison}

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
    _report(study, chains, opened, out)
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
    _report(study, [chain_of(cell, opened, out) for cell in cells], opened, out)


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


def _report(study: str, chains: list[Chain], store: Store, out: Path) -> None:
    module, folder = STUDIES[study], out / study
    for note in failures(chains):
        console.print(note, style="red", markup=False)
    rows = rows_of(chains)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(rows_path(out, study), index=False)
    methods = list(dict.fromkeys(chain.cell.method for chain in finished(chains)))
    reference = module.REFERENCE if module.REFERENCE in methods else methods[-1]
    table = comparison_table(rows, reference=reference, title=f"{module.TITLE} on {store.name}")
    leakage, leaked = leakage_note(chains, store)
    pages = write_report(
        folder,
        title=f"{module.TITLE} on {store.name}",
        question=module.QUESTION,
        tables=[table],
        pictures=_pictures(chains, store, rows, methods),
        cells=cell_table(chains),
        notes=[] if leaked else [leakage],
        warnings=[*([leakage] if leaked else []), *failures(chains)],
        facts=environment_of(chains),
    )
    console.print(for_terminal(table, console.width))
    console.print(f"Report: {pages.resolve()}", soft_wrap=True, highlight=False)


def _pictures(chains: list[Chain], store: Store, rows, methods: list[str]) -> list[Picture]:  # type: ignore[no-untyped-def]
    pictures = [
        Picture(
            "patients",
            "Patients",
            "Each dot is one test patient in one training run; grey lines join a patient's means; bars are the means "
            "of methods.",
            draw_patients(rows, methods),
        ),
        Picture(
            "overlays",
            "Overlays",
            "Test slices with the reference and each method's first run as contours (the paper's Figure 3).",
            draw_overlays(overlays_of(chains, store)),
        ),
    ]
    if pretraining := curves_of(chains, "pretrain"):
        names = {
            "loss_global": "global loss, Eq. 3",
            "loss_pixel": "local loss, Eq. 6",
            "cross_entropy_pixel": "pixel cross-entropy",
            "uncertainty": "mean uncertainty U",
        }
        caption = (
            "Pre-training, one line for each run. The local loss can fall while the network collapses; the pixel "
            "cross-entropy would then rise."
        )
        pictures.append(
            Picture("pretraining", "Pre-training", caption, draw_curves(pretraining, names, "Pre-training"))
        )
    names = {"loss": "training loss", "validation_dice": "validation Dice"}
    pictures.append(
        Picture(
            "finetuning",
            "Fine-tuning",
            "Fine-tuning, one line for each run; the best validation Dice is what is tested.",
            draw_curves(curves_of(chains, "finetune"), names, "Fine-tuning"),
        )
    )
    if maps := uncertainty_of(chains, store):
        caption = "Test slices and the teacher's uncertainty of each pixel after pre-training (the paper's Figure 2)."
        pictures.append(Picture("uncertainty", "Uncertainty", caption, draw_uncertainty(maps)))
    return pictures


def main() -> None:
    """The command line; a ValueError is a message for the user, not a traceback."""
    try:
        app(prog_name="python -m experiments")
    except ValueError as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
