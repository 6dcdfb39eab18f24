"""`suggest`: whom to contour next, and how many more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pixelglobal import api
from pixelglobal.commands.progress import progress_bar

console = Console()


def suggest(
    store: Annotated[Path, typer.Option(help="The folder that `pixelglobal prepare` has written.")],
    model: Annotated[Path, typer.Option(help="The folder of a fine-tuning, or of a pre-training with pixel matching.")],
    out: Annotated[Path, typer.Option(help="The folder for suggestion.csv and suggestion.png.")] = Path("suggestion"),
    count: Annotated[int, typer.Option(min=1, help="How many patients.")] = 8,
    rows: Annotated[
        Path | None, typer.Option(help="The rows of a study low_data, from which --wanted-dice is answered.")
    ] = None,
    wanted_dice: Annotated[
        float | None, typer.Option(help="Also say how many more patients an average DSC of so many per cent takes.")
    ] = None,
    method: Annotated[str, typer.Option(help="The method of these rows.")] = "full",
    hours_per_patient: Annotated[
        float, typer.Option(min=0.0, help="The hours that contouring one patient takes.")
    ] = 1.0,
) -> None:
    """Suggest which unlabelled patients to contour next.

    Patients come first of whom the model is unsure and who are unlike those that are contoured already. Whether that is
    better than to choose at random has to be tried for a cohort; docs/how-to/next-patient.md says what came of it.
    """
    if (rows is None) != (wanted_dice is None):
        raise ValueError("--rows and --wanted-dice are given together: the rows of a study low_data, and the DSC")
    with progress_bar("Describing scans", console) as progress:
        table = api.suggest(store, model, out, count=count, progress=progress)
    for row in table.itertuples():
        line = f"{row.rank}. {row.case}: uncertainty {row.uncertainty:.3f}, distance {row.distance:.2f}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for name in ("suggestion.csv", "suggestion.png"):
        console.print(f"Written: {out / name}", markup=False, highlight=False, soft_wrap=True)
    if rows is not None and wanted_dice is not None:
        from pixelglobal.tables.patients_needed import patients_needed
        from pixelglobal.tables.read_rows import read_rows

        sentences = patients_needed(read_rows([rows]), method, wanted_dice, hours_per_patient)
        console.print(sentences, markup=False, highlight=False, soft_wrap=True)
