"""The bar that commands show while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn as Bar
from rich.progress import Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str, console: Console) -> Iterator[Callable[[float, int], None]]:
    """A bar with the time that is left, and the function that moves it: (done, total); done may be in parts."""
    columns = (TextColumn("{task.description}"), Bar(), TaskProgressColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=None, count="")

        def move(done: float, total: int) -> None:
            bar.update(task, completed=done, total=total, count=f"{int(done)}/{total}")

        yield move
