"""`doctor`: what this machine has, and what is known not to work on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()


def doctor(
    source: Annotated[
        list[Path],
        typer.Option(help="A further folder of Python files that the hash of the code covers, where there is one."),
    ] = [Path("experiments")],  # noqa: B006 - typer copies it
) -> None:
    """Print what this machine has and what does not work on it."""
    from pixelglobal.doctor import facts, problems

    for name, value in facts(Path.cwd(), [folder for folder in source if folder.is_dir()]).items():
        console.print(f"{name:12} {value}", highlight=False, soft_wrap=True)
    for problem in (detected := problems()):
        console.print(f"Problem: {problem}", style="bold red", markup=False, soft_wrap=True)
    if detected:
        raise typer.Exit(1)
    console.print("No known problem.", style="green")
