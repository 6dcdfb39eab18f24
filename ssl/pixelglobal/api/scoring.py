"""Metrics and statistics for predictions and rows that were made anywhere: `score` and `compare`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelglobal.api.options import (
    AnyPath,
    Claim,
    Correction,
    Family,
    MetricName,
    Missing,
    PairedTest,
    Progress,
    Unit,
    map_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from pixelglobal.tables.table import Table


def score(
    predictions: AnyPath,
    references: AnyPath,
    *,
    out: AnyPath | None = None,
    method: str = "method",
    seed: int = 0,
    cohort: str = "cohort",
    structures: Sequence[str] | str | None = None,
    patients: Mapping[str, str] | AnyPath | None = None,
    fold: str | None = None,
    tolerance_mm: float | Mapping[str, float] = 3.0,
    not_contoured: bool = False,
    on_ray: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score predictions that were made anywhere: Dice, surface Dice and Hausdorff distances of every case as rows.

    predictions, references: folders of NIfTI label files with the same names.
    out: a folder for `rows.parquet` and nnU-Net's `summary.json`; None writes nothing.
    method, seed, cohort: constants of the rows.
    structures: names in the order of the label values, or the path of a dataset.json; None looks for a dataset.json
    beside the references.
    patients: the patient of each case, or a CSV with the columns case and patient; None takes a case for a patient.
    fold: of a cross-validation, in which the model was trained on the other folds.
    tolerance_mm: of the surface Dice, one for all structures or one for each.
    not_contoured: a structure without a voxel in a reference was not contoured, rather than absent.
    progress: called with the number of cases that are done and of all cases.
    Raises ValueError if a prediction is missing or lies on another grid.

    Example::

        rows = pg.score("predictions", "references", method="nnU-Net", structures=["Liver", "Spleen"])
    """
    from pixelglobal.evaluation.score import (
        pairs_of,
        patients_of,
        rows_of_scores,
        save_summary,
        score_pairs,
        structures_of,
    )

    names = ",".join(structures) if structures is not None and not isinstance(structures, str) else structures
    pairs, labels = pairs_of(Path(predictions), Path(references)), structures_of(names, Path(references))
    if patients is not None and not isinstance(patients, Mapping):
        patients = patients_of(Path(patients), [pair.case for pair in pairs])
    scored = []
    for case in score_pairs(
        pairs, labels, tolerance_mm=tolerance_mm, empty_is_absent=not not_contoured, map_pairs=map_of(on_ray)
    ):
        scored.append(case)
        if progress:
            progress(len(scored), len(pairs))
    rows = rows_of_scores(scored, method=method, seed=seed, cohort=cohort, patients=patients, fold=fold)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / "rows.parquet", index=False)
        save_summary(scored, folder / "summary.json")
    return rows


def compare(
    rows: pd.DataFrame | AnyPath | Iterable[AnyPath],
    reference: str,
    *,
    metric: MetricName = "dice",
    claim: Claim | None = None,
    unit: Unit = "patient",
    test: PairedTest = "sign_flip",
    primary: Sequence[str] | None = None,
    family: Family = "holm",
    correction: Correction = "holm",
    missing: Missing = "refuse",
    percent: bool = False,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Table:
    """The significance table of the rows of one cohort: `reference` against every other method, paired.

    rows: a table with the columns method, case, structure and dice (0 to 1), or files of such rows; further columns
    are described in docs/reference/rows.md.
    claim: whether a mark is about the methods, which takes 3 training runs of each, or of these checkpoints; None is
    the first where it can be made. unit, test: of claims about checkpoints. primary: the methods whose contrast
    with the reference is the question, all if not given; family and correction: how p-values are corrected. missing:
    what becomes of scores that other methods or runs have. percent: Dice in files is given from 0 to 100.
    Raises ValueError if a column is missing, if a value is wrong, or if there is more than one cohort.

    >>> import pandas as pd
    >>> import pixelglobal as pg
    >>> rows = pd.DataFrame(
    ...     [(m, f"case {i}", "Liver", d + i / 100) for m, d in (("ours", 0.8), ("theirs", 0.7)) for i in range(12)],
    ...     columns=["method", "case", "structure", "dice"],
    ... )
    >>> table = pg.compare(rows, reference="ours")
    >>> table.comparisons["structure"].tolist(), table.comparisons["n_patients"].tolist()
    (['Liver', 'Average'], [12, 12])
    >>> print(table.to_markdown())  # doctest: +ELLIPSIS
    **Significance.** ...
    """
    import pandas as pd

    from pixelglobal.tables.read_rows import read_rows
    from pixelglobal.tables.significance import cohorts_of, significance_tables

    if not isinstance(rows, pd.DataFrame):
        files = [rows] if isinstance(rows, str | os.PathLike) else rows
        rows = read_rows([Path(file) for file in files], percent=percent)
    if len(cohorts := [name for name, _ in cohorts_of(rows)]) > 1:
        raise ValueError(
            f"the rows are of {len(cohorts)} cohorts, {', '.join(cohorts)}; expected one, since patients of different "
            'cohorts are no pairs: give rows[rows["cohort"] == NAME]'
        )
    table, *_ = significance_tables(
        rows, reference=reference, unit=unit, test=test, claim=claim, metric=metric, primary=primary, family=family,
        correction=correction, missing=missing, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    return table
