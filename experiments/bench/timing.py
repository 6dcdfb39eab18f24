"""Interleaved timing: every candidate once a round, so that a slow minute of the machine slows them all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table as ConsoleTable


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int = 7, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each candidate over the rounds; on CUDA every call is waited for."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in track(range(-warmup, rounds), "rounds", console=Console(stderr=True), transient=True):
        for name, call in candidates.items():
            began = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in seconds.items()}


@dataclass
class Findings:
    """What a bench found: rows for a table, and the ratios that it is about."""

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # versions, sizes, device

    def show(self, console: Console) -> None:
        """Print rows and ratios."""
        table = ConsoleTable(title=self.title, title_justify="left")
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            table.add_row(*(_text(row.get(column, "")) for column in columns))
        console.print(table)
        for name, value in self.ratios.items():
            console.print(f"{name} = {value:.2f}", highlight=False)
        console.print(", ".join(f"{k} {v}" for k, v in self.facts.items()), style="dim", highlight=False)

    def save(self, path: Path) -> None:
        """Write rows, ratios and facts as JSON."""
        path.write_text(json.dumps({"rows": self.rows, "ratios": self.ratios, "facts": self.facts}, indent=1) + "\n")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
