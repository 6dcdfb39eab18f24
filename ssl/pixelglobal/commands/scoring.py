"""`score` and `significance`: metrics and statistics for predictions and rows that were made anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from pixelglobal import api
from pixelglobal.api import options

console = Console()


def _tolerance_of(words: str | float) -> Any:
    from pixelglobal.config.tolerance import tolerance_of

    try:
        return tolerance_of(str(words))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Structures = Annotated[
    str | None,
    typer.Option(
        help="The names of the labels 1, 2, ... with commas, or the path of a dataset.json. Without it, a dataset.json "
        "beside the references is read."
    ),
]
Patients = Annotated[
    Path | None, typer.Option(help="A CSV with the columns case and patient. [default: a case is a patient]")
]
Fold = Annotated[str | None, typer.Option(help="The fold of a cross-validation that was tested.")]
Tolerance = Annotated[
    Any,
    typer.Option(
        parser=_tolerance_of,
        metavar="<mm>",
        help="The tolerance of the surface Dice in mm, such as 3, or Liver=3,Spleen=2.",
    ),
]
NotContoured = Annotated[
    bool,
    typer.Option(
        "--not-contoured",
        help="Take a structure without a voxel in a reference as not contoured, rather than as absent.",
    ),
]
OnRay = Annotated[
    bool, typer.Option("--on-ray", help="Spread the cases over the Ray cluster of RAY_ADDRESS, or over all cores.")
]


def score(
    predictions: Annotated[Path, typer.Option(help="The folder of predicted NIfTI label files.")],
    references: Annotated[Path, typer.Option(help="The folder of reference label files of the same names.")],
    out: Annotated[Path, typer.Option(help="The folder for rows.parquet and summary.json.")],
    method: Annotated[str, typer.Option(help="The name of the method in the rows.")] = "method",
    seed: Annotated[int, typer.Option(help="The number of the training run of that method.")] = 0,
    cohort: Annotated[str, typer.Option(help="The name of the cohort in the rows.")] = "cohort",
    structures: Structures = None,
    patients: Patients = None,
    fold: Fold = None,
    tolerance_mm: Tolerance = 3.0,
    not_contoured: NotContoured = False,
    on_ray: OnRay = False,
) -> None:
    """Score a folder of predictions that were made anywhere.

    The scores are saved as rows for `pixelglobal significance`, and as nnU-Net's summary.json.
    """
    with Progress(console=console) as bar:
        task = bar.add_task("Scoring", total=None)
        rows = api.score(
            predictions,
            references,
            out=out,
            method=method,
            seed=seed,
            cohort=cohort,
            structures=structures,
            patients=patients,
            fold=fold,
            tolerance_mm=tolerance_mm,
            not_contoured=not_contoured,
            on_ray=on_ray,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    volumes = rows[rows["slice_index"] == -1]
    for name, scores in volumes.groupby("structure", sort=False):
        missed = int(((scores["n_predicted"] == 0) & (scores["n_reference"] > 0)).sum())
        undefined = int(scores["dice"].isna().sum())
        mean = scores["dice"].mean() * 100
        line = f"{name}: mean DSC {mean:.2f} %, {missed} missed, {undefined} not applicable"
        console.print(line, highlight=False, markup=False)
    console.print(f"Rows: {(out / 'rows.parquet').resolve()}", soft_wrap=True, highlight=False, markup=False)


Rows = Annotated[
    list[Path] | None, typer.Option(help="A Parquet or CSV file of rows. Give the option again for more files.")
]
Reference = Annotated[str | None, typer.Option(help="The method with which every other method is compared.")]
Metric = Annotated[options.MetricName, typer.Option(help="What is printed and tested.")]
Claim = Annotated[
    options.Claim | None,
    typer.Option(help="Whether the claim is about methods or checkpoints. [default: methods, from 3 runs on]"),
]
Unit = Annotated[
    options.Unit, typer.Option(help="Whose independence the p-values of a claim about checkpoints assume.")
]
Test = Annotated[options.PairedTest, typer.Option(help="The two-sided paired test of checkpoints.")]
Primary = Annotated[str | None, typer.Option(help="The methods whose contrast is the question: A,B. [default: all]")]
Family = Annotated[
    options.Family, typer.Option(help="How the primary contrasts are corrected; `sequence` tests them in their order.")
]
Correction = Annotated[options.Correction, typer.Option(help="How the p-values of a family are corrected.")]
Missing = Annotated[options.Missing, typer.Option(help="What becomes of scores that other methods or runs have.")]
Percent = Annotated[bool, typer.Option("--percent", help="Dice is given from 0 to 100.")]
Gain = Annotated[float | None, typer.Option(help="Also say how many runs or patients would show this gain.")]
Margin = Annotated[
    float | None, typer.Option(help="Also test whether the reference is worse by less than this margin.")
]
TableFolder = Annotated[Path | None, typer.Option(help="A folder for the tables as Markdown, LaTeX, CSV and HTML.")]
FromMeans = Annotated[
    Path | None,
    typer.Option(help="In place of rows, a published table as CSV: method, mean, sd, n, and metric if not Dice."),
]
Correlation = Annotated[
    float | None, typer.Option(help="With --from-means: the correlation over patients that is assumed.")
]
Resamples = Annotated[int, typer.Option(help="The number of bootstrap samples of an interval.")]
Seed = Annotated[int, typer.Option(help="The seed of the random sign flips and bootstrap samples.")]


def significance(
    rows: Rows = None,
    reference: Reference = None,
    metric: Metric = "dice",
    claim: Claim = None,
    unit: Unit = "patient",
    test: Test = "sign_flip",
    primary: Primary = None,
    family: Family = "holm",
    correction: Correction = "holm",
    missing: Missing = "refuse",
    percent: Percent = False,
    gain: Gain = None,
    margin: Margin = None,
    out: TableFolder = None,
    from_means: FromMeans = None,
    correlation: Correlation = None,
    n_resamples: Resamples = 10_000,
    seed: Seed = 0,
) -> None:
    """Print the significance tables of rows of scores.

    The rows may come from this project, from `pixelglobal score` or from anywhere else. They need the columns method,
    case, structure and dice (0 to 1). Where they apply, the columns patient, seed, fold, slice_index (-1 for the whole
    volume), hausdorff_mm, hausdorff95_mm, surface_dice, diagonal_mm, contoured and cohort are read too.
    """
    from pixelglobal.tables.from_means import claims_from_means
    from pixelglobal.tables.read_rows import read_rows
    from pixelglobal.tables.significance import cohorts_of, further_answers, significance_tables, write_tables
    from pixelglobal.tables.terminal import for_terminal

    if from_means is not None:
        for line in claims_from_means(from_means, reference=reference, correlation=correlation):
            console.print(line, highlight=False, markup=False)
        return
    if not rows or reference is None:
        raise ValueError("significance needs --rows FILE and --reference METHOD, or --from-means FILE")
    table = read_rows(rows, percent=percent)
    tables = significance_tables(
        table, reference=reference, unit=unit, test=test, claim=claim, metric=metric,
        primary=primary.split(",") if primary is not None else None, family=family, correction=correction,
        missing=missing, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    for one in tables:
        console.print(for_terminal(one, console.width))
    if out is not None:
        write_tables(tables, out)
        console.print(f"Tables: {out.resolve()}", soft_wrap=True, highlight=False, markup=False)
    if gain is not None or margin is not None:
        for cohort, part in cohorts_of(table):
            for line in further_answers(
                part, reference=reference, gain=gain, margin=margin, claim=claim, metric=metric, missing=missing
            ):
                console.print(f"{cohort}: {line}" if cohort else line, highlight=False, markup=False)
