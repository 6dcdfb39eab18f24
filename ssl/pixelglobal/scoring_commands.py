"""`score` and `significance`: metrics and statistics for predictions and rows that were made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from pixelglobal.cluster.map import map_on_ray
from pixelglobal.cluster.resources import start_ray
from pixelglobal.evaluation.score import pairs_of, rows_of_scores, save_summary, score_pairs, structures_of
from pixelglobal.statistics.margins import compare_with_margin
from pixelglobal.statistics.power import required_patients
from pixelglobal.tables.averages import paired_means
from pixelglobal.tables.read_rows import read_rows
from pixelglobal.tables.significance import cohorts_of, significance_tables, write_tables
from pixelglobal.tables.terminal import for_terminal

console = Console()


class Unit(StrEnum):
    """Whose independence a p-value assumes."""

    PATIENT = "patient"
    SLICE = "slice"
    BOTH = "both"


class PairedTest(StrEnum):
    """Two-sided paired tests."""

    SIGN_FLIP = "sign_flip"
    WILCOXON = "wilcoxon"
    T = "t"


class Claim(StrEnum):
    """What a star says something about."""

    CHECKPOINT = "checkpoint"
    METHOD = "method"


class Correction(StrEnum):
    """How p-values are corrected for the size of their table."""

    HOLM = "holm"
    BH = "bh"
    NONE = "none"


def score(
    predictions: Annotated[Path, typer.Option(help="folder of NIfTI label files")],
    references: Annotated[Path, typer.Option(help="folder of NIfTI label files of the same names")],
    out: Annotated[Path, typer.Option(help="folder for rows.parquet and summary.json")],
    method: Annotated[str, typer.Option(help="name of the method in the rows")] = "method",
    seed: Annotated[int, typer.Option(help="which training run of that method")] = 0,
    cohort: Annotated[str, typer.Option(help="name of the cohort in the rows")] = "cohort",
    structures: Annotated[str | None, typer.Option(help="Liver,Spleen,... or a dataset.json")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="of the surface Dice")] = 3.0,
    not_contoured: Annotated[
        bool, typer.Option("--not-contoured", help="a structure without a reference voxel was not contoured")
    ] = False,
    on_ray: Annotated[bool, typer.Option("--on-ray", help="spread the cases over Ray")] = False,
) -> None:
    """Score a folder of predictions: rows for `significance`, and nnU-Net's summary.json."""
    pairs, names = pairs_of(predictions, references), structures_of(structures, references)
    if on_ray:
        start_ray()
    cases = score_pairs(
        pairs,
        names,
        tolerance_mm=tolerance_mm,
        empty_is_absent=not not_contoured,
        map_pairs=map_on_ray if on_ray else map,
    )
    scored = list(track(cases, "Scoring", total=len(pairs), console=console))
    out.mkdir(parents=True, exist_ok=True)
    rows = rows_of_scores(scored, method=method, seed=seed, cohort=cohort)
    rows.to_parquet(out / "rows.parquet", index=False)
    save_summary(scored, out / "summary.json")
    volumes = rows[rows["slice_index"] == -1]
    for name, own in volumes.groupby("structure", sort=False):
        missed = int(((own["n_predicted"] == 0) & (own["n_reference"] > 0)).sum())
        undefined = int(own["dice"].isna().sum())
        mean = own["dice"].mean() * 100
        console.print(f"{name}: mean DSC {mean:.2f} %, {missed} missed, {undefined} not applicable", highlight=False)
    console.print(f"Rows: {(out / 'rows.parquet').resolve()}", soft_wrap=True, highlight=False)


def significance(
    rows: Annotated[list[Path], typer.Option(help="Parquet or CSV; give it again for more files")],
    reference: Annotated[str, typer.Option(help="the method that the others are compared with")],
    unit: Unit = Unit.BOTH,
    test: PairedTest = PairedTest.SIGN_FLIP,
    claim: Claim = Claim.CHECKPOINT,
    correction: Correction = Correction.HOLM,
    gain: Annotated[
        float | None, typer.Option(help="also say how many patients would show this gain, in DSC points")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="also test whether the reference is worse by less than this, in DSC points")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the tables as Markdown, LaTeX, CSV and HTML")] = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> None:
    """Print the significance tables of rows that this project, `score` or anybody else made.

    Columns: method, case, structure, dice (0 to 1); and where they apply patient, seed, slice_index (-1: the whole
    volume), hausdorff_mm, diagonal_mm, contoured, cohort.
    """
    table = read_rows(rows)
    tables = significance_tables(
        table,
        reference=reference,
        unit=unit.value,
        test=test.value,
        claim=claim.value,
        correction=correction.value,
        n_resamples=n_resamples,
        seed=seed,
    )
    for one in tables:
        console.print(for_terminal(one, console.width))
    for cohort, part in cohorts_of(table):
        for method in dict.fromkeys(part["method"]):
            if method != reference and (gain is not None or margin is not None):
                for line in _more(reference, method, paired_means(part, reference, method), gain, margin):
                    console.print(f"{cohort}: {line}" if cohort else line, highlight=False)
    if out is not None:
        write_tables(tables, out)
        console.print(f"Tables: {out.resolve()}", soft_wrap=True, highlight=False)


def _more(
    reference: str, method: str, differences: np.ndarray, gain: float | None, margin: float | None
) -> Iterator[str]:
    """Sentences on what a table does not answer; differences: reference minus method of each patient."""
    n = len(differences)
    if margin is not None:
        e = compare_with_margin(differences, np.zeros(n), np.arange(n), margin=margin)
        yield (
            f"{reference} against {method}: {e.difference:+.2f} DSC points (90 % interval {e.low:.2f} to {e.high:.2f}, "
            f"{n} patients); not worse by {margin:g} or more: p = {e.p_not_worse:.4f}; nor better, so equivalent: "
            f"p = {e.p_equivalent:.4f}"
        )
    if gain is not None:
        yield (
            f"{reference} against {method}: {required_patients(differences, gain=gain)} test patients show a gain of "
            f"{gain:g} DSC points with 80 % power, if they spread as these {n}"
        )
