"""`predict` and `export`: what was trained, used on new scans and in other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pixelglobal import api
from pixelglobal.api import options
from pixelglobal.commands.progress import progress_bar

console = Console()


def predict(
    scans: Annotated[Path, typer.Argument(help="A scan, or a folder of scans in any layout that `prepare` reads.")],
    out: Annotated[Path, typer.Option(help="The folder for the label maps and for summary.csv.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(help="The folder of a fine-tuning. Give the option again to average several models."),
    ] = None,
    study: Annotated[
        tuple[Path, str, str] | None,
        typer.Option(metavar="OUT NAME METHOD", help="All runs of a method in a study: --study runs comparison full."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also save the probability of every structure.")
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Also map the uncertainty and, of several models, their disagreement."),
    ] = False,
    mirrors: Annotated[
        bool, typer.Option("--mirrors", help="Take the mean with the mirrored scan, where left and right allow it.")
    ] = False,
) -> None:
    """Segment new scans, which need no labels and no store.

    The labels of each scan are saved as NIfTI on the grid of its file, with the volume and the mean confidence of every
    structure in summary.csv. A scan that is unlike those of the training is flagged there and below. A scan that cannot
    be read is left out with the reason, and the exit status is 1.
    """
    with progress_bar("Segmenting scans", console) as progress:
        summary = api.predict(
            scans,
            out,
            model=model or (),
            study=study,
            probabilities=probabilities,
            uncertainty=uncertainty,
            mirrors=mirrors,
            progress=progress,
        )
    flagged = summary[(summary["flags"] != "") & (summary["error"] == "")].drop_duplicates("case")
    for case, reasons in zip(flagged["case"], flagged["flags"], strict=True):
        console.print(f"check {case}: {reasons}", style="yellow", markup=False, soft_wrap=True)
    failed = summary[summary["error"] != ""]
    for case, reason in zip(failed["case"], failed["error"], strict=True):
        console.print(f"left out {case}: {reason}", style="bold red", markup=False, soft_wrap=True)
    done = summary["case"].nunique() - len(failed)
    console.print(f"{done} label maps and summary.csv in {out}", highlight=False, soft_wrap=True)
    if len(failed):
        raise typer.Exit(1)


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a pre-training or a fine-tuning.")],
    to: Annotated[options.ExportTarget, typer.Option(help="The library that is to load the file.")],
    out: Annotated[Path, typer.Option(help="The file; the model card and the weights are written beside it.")],
    scan: Annotated[
        Path | None, typer.Option(help="A scan whose middle slice is compared. [default: a synthetic patient]")
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="The rows.parquet of an evaluation, for the model card.")] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of the weights, for the model card.")] = None,
) -> None:
    """Write a trained network for another library.

    It is one of timm, smp, MONAI, nnU-Net, TorchScript and ONNX. The library loads the file and must give the same
    outputs as ours for a slice; otherwise nothing is kept.
    """
    certificate = api.export(run, out, to=to, scan=scan, rows=rows, licence=licence)
    console.print(
        f"Checked: {certificate.library} loaded {certificate.path.name}, and its {certificate.compared} differ from "
        f"ours by at most {certificate.difference:.1e} of their magnitude.",
        style="green", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    for what in certificate.left_out:
        console.print(f"Left out: {what}", markup=False, highlight=False, soft_wrap=True)
    console.print("\n" + "\n".join(certificate.usage) + "\n", markup=False, highlight=False, soft_wrap=True)
    for path in (certificate.path, *certificate.further_files):
        console.print(f"Written: {path}", markup=False, highlight=False, soft_wrap=True)
