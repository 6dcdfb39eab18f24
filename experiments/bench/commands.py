"""Measure costs and error rates, and print them as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.bench.timing import Findings

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[Path | None, typer.Option("--json", help="Also write rows, ratios and facts to this file.")]
Rounds = Annotated[int, typer.Option(help="How many times everything is measured, or how many studies are simulated.")]
Encoder = Annotated[str, typer.Option(help="An encoder of timm.")]
CropSize = Annotated[int, typer.Option(help="The side of a view in pixels.")]
BatchSize = Annotated[int, typer.Option(help="The slices of a step.")]
McPasses = Annotated[int, typer.Option(help="The dropout passes of the full method.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Changes = Annotated[
    list[str] | None, typer.Option(help="A setting that differs from preset small. Give it again for more.")
]
DevelopmentStore = Annotated[Path, typer.Option(help="A prepared store, whose test split is not read.")]
Threads = Annotated[int | None, typer.Option(help="The number of CPU threads. Without it, all are used.")]


@app.command()
def metrics(json: Json = None, rounds: Rounds = 15) -> None:
    """Compare the time of HD95 with MONAI and surface-distance (needs the bench extra)."""
    from experiments.bench.metrics import bench_metrics

    _finish(bench_metrics(rounds), json)


@app.command()
def statistics(
    json: Json = None,
    rounds: Rounds = 1000,
    n_resamples: Annotated[int, typer.Option(help="The number of bootstrap samples of an interval.")] = 1000,
    figure: Annotated[Path | None, typer.Option(help="Also draw the false alarms into this SVG file.")] = None,
) -> None:
    """Simulate the false-alarm rates of the tests and the coverage of the intervals, and time the paper's Table 1."""
    from experiments.bench.statistics import bench_statistics, drawn

    findings = bench_statistics(rounds, n_resamples)
    _finish(findings, json)
    if figure is not None:
        figure.write_text(drawn(findings), encoding="utf-8")


@app.command("method-claims")
def method_claims(json: Json = None, rounds: Rounds = 10_000) -> None:
    """Simulate how often ways of claiming that a method is better are wrong, and how often they see a gain."""
    from experiments.bench.method_claims import bench_method_claims

    _finish(Findings("Claims about methods, in % of simulated studies", **bench_method_claims(rounds)), json)


@app.command()
def step(
    json: Json = None,
    rounds: Rounds = 7,
    encoder: Encoder = "resnet50",
    crop_size: CropSize = 224,
    batch_size: BatchSize = 8,
    mc_passes: McPasses = 20,
    precision: Precision = "fp32",
    threads: Threads = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Without it, CUDA if there is one.")] = None,
) -> None:
    """Time one pre-training step of GO, GP, GPC, full, full as literally written, and lightly's DINO."""
    from experiments.bench.step import Size, bench_step

    _finish(bench_step(Size(encoder, crop_size, batch_size, mc_passes, precision), rounds, threads, device), json)


@app.command()
def methods(
    json: Json = None,
    rounds: Rounds = 7,
    encoder: Encoder = "resnet50",
    crop_size: CropSize = 224,
    batch_size: BatchSize = 8,
    mc_passes: McPasses = 20,
    precision: Precision = "fp32",
    threads: Threads = None,
) -> None:
    """Measure a step of every method on the same slices: parameters, FLOPs, memory, slices a second."""
    from experiments.bench.methods import bench_methods
    from experiments.bench.step import Size

    _finish(bench_methods(Size(encoder, crop_size, batch_size, mc_passes, precision), rounds, threads), json)


@app.command()
def data(
    json: Json = None,
    rounds: Rounds = 3,
    folder: Annotated[Path, typer.Option(help="A folder for 18 GB of synthetic slices.")] = Path("bench_data"),
    slices: Annotated[int, typer.Option(help="The number of slices of 384 x 384.")] = 20_480,
    batches: Annotated[int, typer.Option(help="The batches of 8 that are timed of each supply in a round.")] = 500,
) -> None:
    """Compare the stream of slices with DataLoader and MONAI: slices a second, first batch, memory, mixing."""
    from experiments.bench.data import bench_data

    _finish(bench_data(folder, slices, rounds, batches), json)


@app.command()
def finetuning(
    store: DevelopmentStore,
    rows: Annotated[
        Path, typer.Option(help="A CSV file to which every training adds its row. Its rows are not trained again.")
    ],
    recipe: Annotated[
        list[str] | None, typer.Option(help="A recipe. Give it again for more; without it, all are trained.")
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Fine-tuning steps. Give it again for more; without it, 125, 250 and 500.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="The number of draws of labelled patients, each with its seed.")] = 5,
    patients: Annotated[int, typer.Option(help="The labelled patients of a draw.")] = 4,
    scored: Annotated[int, typer.Option(help="The development patients without labels that are scored.")] = 12,
    setting: Changes = None,
    json: Json = None,
) -> None:
    """Compare recipes of fine-tuning from random weights, ours and others', on development patients."""
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


@app.command()
def suggestion(
    store: DevelopmentStore,
    rows: Annotated[
        Path, typer.Option(help="A CSV file to which every draw adds its rows. Its draws are not trained again.")
    ],
    draws: Annotated[int, typer.Option(help="The number of draws of the first patients, each with its seed.")] = 10,
    steps: Annotated[int, typer.Option(help="Fine-tuning steps.")] = 300,
    setting: Changes = None,
    json: Json = None,
) -> None:
    """Compare patients that `pixelglobal suggest` adds to a few labelled ones with patients at random."""
    import torch

    from experiments.bench.suggestion import bench_suggestion
    from pixelglobal.data.store import Store

    torch.set_num_threads(1)
    findings = bench_suggestion(Store.open(store), rows, range(draws), overrides=setting or (), steps=steps)
    _finish(findings, json)


@app.command()
def fingerprints(
    scans: Annotated[Path, typer.Option(help="A cohort in any layout; every scan is read.")],
    split_file: Annotated[Path | None, typer.Option(help="A split file, whose test patients are left out.")] = None,
    altered: Annotated[int, typer.Option(help="The number of scans of which altered copies are made.")] = 20,
    json: Json = None,
) -> None:
    """Measure how near altered copies of scans are, and how far different patients are apart."""
    from experiments.bench.fingerprints import bench_fingerprints

    _finish(bench_fingerprints(scans, split_file, altered), json)


@app.command()
def prepare(
    scans: Annotated[
        Path | None, typer.Option(help="A cohort of NIfTI files. Without it, phantoms of 512 x 512 x 40 voxels.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Whose prepare settings are used: smoke, small or paper.")] = "paper",
    rounds: Rounds = 5,
    json: Json = None,
) -> None:
    """Compare the time to prepare a cohort with that of nibabel, which only decompresses the same files."""
    from experiments.bench.prepare import bench_prepare

    _finish(bench_prepare(scans, preset, rounds), json)


def _finish(findings: Findings, json: Path | None) -> None:
    findings.show(Console())
    if json is not None:
        findings.save(json)
