"""`python -m experiments bench NAME`: print a table of costs; `--json FILE` also writes its rows and ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.bench.timing import Findings

app = typer.Typer(help=__doc__, no_args_is_help=True)
Json = Annotated[Path | None, typer.Option("--json", help="also write rows, ratios and facts to this file")]


@app.command()
def metrics(json: Json = None, rounds: int = 15) -> None:
    """HD95 against MONAI and surface-distance (needs the bench extra)."""
    from experiments.bench.metrics import bench_metrics

    _finish(bench_metrics(rounds), json)


@app.command()
def statistics(
    json: Json = None,
    rounds: int = 1000,
    n_resamples: int = 1000,
    figure: Annotated[Path | None, typer.Option(help="also draw the false alarms, as SVG")] = None,
) -> None:
    """False-alarm rates of the tests, coverage of the intervals, and the time of the paper's Table 1."""
    from experiments.bench.statistics import bench_statistics, drawn

    findings = bench_statistics(rounds, n_resamples)
    _finish(findings, json)
    if figure is not None:
        figure.write_text(drawn(findings), encoding="utf-8")


@app.command()
def step(
    json: Json = None,
    rounds: int = 7,
    encoder: str = "resnet50",
    crop_size: int = 224,
    batch_size: int = 8,
    mc_passes: int = 20,
    precision: str = "fp32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all, if not given")] = None,
) -> None:
    """One pre-training step: GO, GP, GPC, full, full written naively, and lightly's DINO."""
    from experiments.bench.step import Size, bench_step

    _finish(bench_step(Size(encoder, crop_size, batch_size, mc_passes, precision), rounds, threads), json)


@app.command()
def methods(
    json: Json = None,
    rounds: int = 7,
    encoder: str = "resnet50",
    crop_size: int = 224,
    batch_size: int = 8,
    mc_passes: int = 20,
    precision: str = "fp32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all, if not given")] = None,
) -> None:
    """A step of every method on the same slices: parameters, FLOPs, memory, slices a second."""
    from experiments.bench.methods import bench_methods
    from experiments.bench.step import Size

    _finish(bench_methods(Size(encoder, crop_size, batch_size, mc_passes, precision), rounds, threads), json)


@app.command()
def finetuning(
    store: Annotated[Path, typer.Option(help="a prepared store; its test split is not read")],
    rows: Annotated[Path, typer.Option(help="a CSV to which every training adds its row; what it has is kept")],
    recipe: Annotated[list[str] | None, typer.Option(help="again for each one; all, if not given")] = None,
    steps: Annotated[list[int] | None, typer.Option(help="again for each number; 125, 250, 500")] = None,
    seeds: int = 5,
    patients: Annotated[int, typer.Option(help="labelled patients of a draw")] = 4,
    scored: Annotated[int, typer.Option(help="unlabelled development patients that are scored")] = 12,
    setting: Annotated[list[str] | None, typer.Option(help="section.name=value beside preset small")] = None,
    json: Json = None,
) -> None:
    """Recipes of fine-tuning random weights, ours and others', on development patients."""
    import torch

    from experiments.bench.finetuning import RECIPES, bench_finetuning
    from experiments.bench.finetuning_peers import PEERS
    from pixelglobal.data.store import Store

    torch.set_num_threads(1)
    findings = bench_finetuning(
        Store.open(store), rows, recipe or [*RECIPES, *PEERS], steps or [125, 250, 500], range(seeds),
        overrides=setting or (), n_patients=patients, n_scored=scored,
    )  # fmt: skip
    _finish(findings, json)


def _finish(findings: Findings, json: Path | None) -> None:
    findings.show(Console())
    if json is not None:
        findings.save(json)
