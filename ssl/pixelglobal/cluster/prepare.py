"""`prepare` over a cluster: one scan is one block of Ray Data, so a bad scan spoils only itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import ray.data

from pixelglobal.cohorts import Case
from pixelglobal.prepare import Result


def map_cases_on_ray(function: Callable[[Case], Result], cases: Sequence[Case]) -> Iterator[Result]:
    """Results of `function` in the order in which they are finished, one CPU each."""
    if not cases:
        return

    def work(row: dict[str, Case]) -> dict[str, Result]:
        return {"result": function(row["item"])}

    blocks = ray.data.from_items(list(cases), override_num_blocks=len(cases))
    for row in blocks.map(work, num_cpus=1).iter_rows():
        yield row["result"]
