"""A function of many scans over a cluster: one scan is one block of Ray Data, so a bad scan spoils only itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import ray.data

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_ray(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results of `function` in the order in which they are finished, one CPU each."""
    if not items:
        return

    def work(row: dict[str, Item]) -> dict[str, Result]:
        return {"result": function(row["item"])}

    blocks = ray.data.from_items(list(items), override_num_blocks=len(items))
    for row in blocks.map(work, num_cpus=1).iter_rows():
        yield row["result"]
