"""The `pixelglobal` program."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from pixelglobal.commands.doctor import doctor
from pixelglobal.commands.inspection import inspect
from pixelglobal.commands.pipeline import evaluate, finetune, prepare, pretrain, uncertainty
from pixelglobal.commands.prediction import export, predict
from pixelglobal.commands.scoring import score, significance
from pixelglobal.commands.suggestion import suggest
from pixelglobal.files import WriteError
from pixelglobal.version import __version__

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (
    prepare,
    inspect,
    pretrain,
    finetune,
    evaluate,
    predict,
    uncertainty,
    suggest,
    export,
    score,
    significance,
    doctor,
):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pixelglobal {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Self-supervised pre-training for CT segmentation, from a folder of scans to a significance table.

    Every command can be given again: a finished scan or epoch is not computed twice. Settings are written as
    section.name=value, for example pretrain.batch_size=4. Whole studies are run from the checkout with `python -m
    experiments`.
    """


def main() -> None:
    """Run the program; a ValueError or WriteError is a message for the user and exit status 2, not a traceback."""
    try:
        app(prog_name="pixelglobal")
    except (ValueError, WriteError) as error:
        Console().print(str(error), style="bold red", markup=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
