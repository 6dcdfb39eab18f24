"""`inspect`: what is probably wrong with scans and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelglobal.api.options import AnyPath

if TYPE_CHECKING:
    from pixelglobal.data.store import Store
    from pixelglobal.inspection.inspection import Inspection


def inspect(
    store: Store | AnyPath | Sequence[Store | AnyPath], *, html: AnyPath | None = None, compare_scans: bool = True
) -> list[Inspection]:
    """Judge the scans and labels of one or several stores; returns an `Inspection` for each.

    html: a file for a page with pictures and tables of all stores, which opens without a network.
    compare_scans: look for scans that are nearly the same, which takes the longest.
    An inspection has `findings`, one sentence for each kind of thing, `suspects` with case, kind and numbers, and
    `census`, a table with one row for each structure of each case. Nothing is changed. Raises ValueError for a folder
    that is no store, and for a store of an older version, which measured nothing.

    Example::

        [inspection] = pg.inspect(store)
        print(*inspection.findings, sep="\\n")
    """
    from pixelglobal.data.store import Store
    from pixelglobal.inspection.inspection import inspect as inspect_store
    from pixelglobal.inspection.page import write_page

    several = store if isinstance(store, Sequence) and not isinstance(store, str) else [store]
    inspections = [
        inspect_store(one if isinstance(one, Store) else Store.open(Path(one)), compare_scans=compare_scans)
        for one in several
    ]
    if html is not None:
        write_page(inspections, Path(html))
    return inspections
