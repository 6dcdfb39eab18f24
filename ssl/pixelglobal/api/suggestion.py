"""Whom to contour next: `suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pixelglobal.api.options import AnyPath, Progress

if TYPE_CHECKING:
    import pandas as pd

    from pixelglobal.data.store import Store


def suggest(
    store: Store | AnyPath,
    model: AnyPath,
    out: AnyPath = "suggestion",
    *,
    count: int = 8,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Rank the unlabelled patients of a store by how much their contours would teach a model; returns the first.

    store: a prepared cohort with scans without labels. model: what `finetune` returned, or a pre-training with pixels.
    out: a folder for `suggestion.csv` and `suggestion.png`, a sheet of the slices of which the model is least sure.
    count: how many patients. progress: called with the number of scans that are done and of all scans.
    The columns are rank, case, patient, uncertainty (of the most uncertain hundredth of the voxels, in [0, 1]),
    distance (to the nearest patient that is contoured or ranks higher, in the features of the encoder) and slice_index.
    Raises ValueError if every patient is contoured, or if the model has no uncertainty.

    Example::

        next_patients = pg.suggest(store, segmenter, count=2)
        print(next_patients["case"].tolist())
    """
    from pixelglobal.data.store import Store
    from pixelglobal.devices import default_device
    from pixelglobal.evaluation.suggestion import suggest as suggest_patients
    from pixelglobal.evaluation.suggestion_sheet import suggestion_sheet
    from pixelglobal.files import write_file

    opened = store if isinstance(store, Store) else Store.open(Path(store))
    table, scans = suggest_patients(Path(model), opened, count, default_device(), progress)
    write_file(Path(out) / "suggestion.csv", table.to_csv(index=False))
    figure = suggestion_sheet(table, scans)
    write_file(Path(out) / "suggestion.png", lambda path: figure.savefig(path, dpi=120, format="png"))
    return table
