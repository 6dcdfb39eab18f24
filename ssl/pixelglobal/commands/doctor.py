"""`doctor`: what this machine has, and what is known not to work on it."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

console = Console()


def doctor() -> None:
    """Print what this machine has and what does not work on it."""
    from pixelglobal.doctor import facts, problems

    for name, value in facts(Path.cwd()).items():
        console.print(f"{name:12} {value}", highlight=False, soft_wrap=True)
    for problem in (detected := problems()):
        console.print(f"Problem: {problem}", style="bold red", markup=False, soft_wrap=True)
    if detected:
        raise typer.Exit(1)
    console.print("No known problem.", style="green")
