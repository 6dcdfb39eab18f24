"""`score` and `significance`: metrics and statistics for predictions and rows that were made anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from pixelglobal import api

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

console = Console()


def score(
    predictions: Annotated[Path, typer.Option(help="The folder of predicted NIfTI label files.")],
    references: Annotated[Path, typer.Option(help="The folder of reference label files of the same names.")],
    out: Annotated[Path, typer.Option(help="The folder for rows.parquet and summary.json.")],
    method: Annotated[str, typer.Option(help="The name of the method in the rows.")] = "method",
    seed: Annotated[int, typer.Option(help="The number of the training run of that method.")] = 0,
    cohort: Annotated[str, typer.Option(help="The name of the cohort in the rows.")] = "cohort",
    structures: Annotated[
        str | None,
        typer.Option(
            help="The names of the labels 1, 2, ... with commas, or the path of a dataset.json. Without it, a "
            "dataset.json beside the references is read."
        ),
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(help="The tolerance of the surface Dice in mm.")] = 3.0,
    not_contoured: Annotated[
        bool,
        typer.Option(
            "--not-contoured",
            help="Take a structure without a voxel in a reference as not contoured, rather than as absent.",
        ),
    ] = False,
    on_ray: Annotated[
        bool, typer.Option("--on-ray", help="Spread the cases over the Ray cluster of RAY_ADDRESS, or over all cores.")
    ] = False,
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
        console.print(f"{name}: mean DSC {mean:.2f} %, {missed} missed, {undefined} not applicable", highlight=False)
    console.print(f"Rows: {(out / 'rows.parquet').resolve()}", soft_wrap=True, highlight=False)


def significance(
    rows: Annotated[
        list[Path], typer.Option(help="A Parquet or CSV file of rows. Give the option again for more files.")
    ],
    reference: Annotated[str, typer.Option(help="The method with which every other method is compared.")],
    unit: Annotated[api.Unit, typer.Option(help="Whose independence a p-value assumes.")] = "both",
    test: Annotated[api.PairedTest, typer.Option(help="The two-sided paired test.")] = "sign_flip",
    claim: Annotated[
        api.Claim, typer.Option(help="Whether a mark speaks of these checkpoints or of the methods.")
    ] = "checkpoint",
    correction: Annotated[
        api.Correction, typer.Option(help="How p-values are corrected for the number of tests in their table.")
    ] = "holm",
    gain: Annotated[
        float | None, typer.Option(help="Also say how many patients would show this gain, in DSC points.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Also test whether the reference is worse by less than this margin, in DSC points."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the tables as Markdown, LaTeX, CSV and HTML.")] = None,
    n_resamples: Annotated[int, typer.Option(help="The number of random sign flips and bootstrap samples.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The seed of the random sign flips and bootstrap samples.")] = 0,
) -> None:
    """Print the significance tables of rows of scores.

    The rows may come from this project, from `pixelglobal score` or from anywhere else. They need the columns method,
    case, structure and dice (0 to 1). Where they apply, the columns patient, seed, slice_index (-1 for the whole
    volume), hausdorff_mm, diagonal_mm, contoured and cohort are read too.
    """
    from pixelglobal.tables.read_rows import read_rows
    from pixelglobal.tables.significance import cohorts_of, significance_tables, write_tables
    from pixelglobal.tables.terminal import for_terminal

    table = read_rows(rows)
    tables = significance_tables(
        table,
        reference=reference,
        unit=unit,
        test=test,
        claim=claim,
        correction=correction,
        n_resamples=n_resamples,
        seed=seed,
    )
    for one in tables:
        console.print(for_terminal(one, console.width))
    for cohort, part in cohorts_of(table):
        for line in _further_answers(part, reference, gain, margin):
            console.print(f"{cohort}: {line}" if cohort else line, highlight=False)
    if out is not None:
        write_tables(tables, out)
        console.print(f"Tables: {out.resolve()}", soft_wrap=True, highlight=False)


def _further_answers(rows: pd.DataFrame, reference: str, gain: float | None, margin: float | None) -> Iterator[str]:
    """Sentences about every other method in the rows of one cohort that the table does not hold."""
    from pixelglobal.tables.averages import paired_means

    if gain is None and margin is None:
        return
    for method in dict.fromkeys(rows["method"]):
        if method != reference:
            differences = paired_means(rows, reference, method)
            if margin is not None:
                yield f"{reference} against {method}: {_margin_test(differences, margin)}"
            if gain is not None:
                yield f"{reference} against {method}: {_patients_for_gain(differences, gain)}"


def _margin_test(differences: np.ndarray, margin: float) -> str:
    """differences: reference minus method of each patient, in DSC points."""
    import numpy as np

    from pixelglobal.statistics.margins import compare_with_margin

    n = len(differences)
    e = compare_with_margin(differences, np.zeros(n), np.arange(n), margin=margin)
    return (
        f"{e.difference:+.2f} DSC points (90 % interval {e.low:.2f} to {e.high:.2f}, {n} patients); "
        f"not worse by {margin:g} or more: p = {e.p_not_worse:.4f}; nor better, so equivalent: p = {e.p_equivalent:.4f}"
    )


def _patients_for_gain(differences: np.ndarray, gain: float) -> str:
    """differences: reference minus method of each patient, in DSC points."""
    from pixelglobal.statistics.power import required_patients

    needed, n = required_patients(differences, gain=gain), len(differences)
    return f"{needed} test patients show a gain of {gain:g} DSC points with 80 % power, if they spread as these {n}"
