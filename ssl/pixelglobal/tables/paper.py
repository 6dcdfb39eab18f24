"""Every number that the paper reports, to print beside ours; `paper/paper_claims.csv` notes what does not add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from pixelglobal.tables.averages import score_table
from pixelglobal.tables.metric import METRICS
from pixelglobal.tables.owed_scores import Missing, owed_scores
from pixelglobal.tables.rows import complete_rows
from pixelglobal.tables.table import Table

FOLDER = Path(__file__).parent / "paper"


PRETRAIN = {"random": "Random", "gl": "GL", "pgl": "PGL", "full": "Ours"}  # our names of methods -> the paper's


DATASETS = {"kits": "KiTS", "kits19": "KiTS", "pelvic": "Pelvic", "headneck": "HeadNeck", "headandneck": "HeadNeck"}


STRUCTURES = {  # names that a cohort may use, in lower case without separators -> the paper's abbreviations
    "KiTS": {"kidney": "Organ", "organ": "Organ", "tumor": "Tumor", "tumour": "Tumor"},
    "Pelvic": {"prostate": "PRT", "bladder": "BLD", "rectum": "RCT", "leftfemur": "LF", "rightfemur": "RF"}
    | {"femurleft": "LF", "femurright": "RF"},
    "HeadNeck": {"brainstem": "BS", "chiasm": "CM", "opticchiasm": "CM", "mandible": "MD"}
    | {"leftopticnerve": "LO", "rightopticnerve": "RO", "leftsubmandibular": "LS", "rightsubmandibular": "RS"}
    | {"leftparotid": "LP", "rightparotid": "RP", "opticnerveleft": "LO", "opticnerveright": "RO"}
    | {"submandibularleft": "LS", "submandibularright": "RS", "parotidleft": "LP", "parotidright": "RP"},
}


@cache
def tables() -> pd.DataFrame:
    """All cells of Tables 1 and 2: table, dataset, pretrain, metric, structure, value, starred, n_samples."""
    return pd.read_csv(FOLDER / "paper_tables.csv")


@cache
def claims() -> pd.DataFrame:
    """The numbers of the text, each with what the tables give: stated, recomputed, status, note."""
    return pd.read_csv(FOLDER / "paper_claims.csv")


def paper_table(table: str = "1a") -> pd.DataFrame:
    """One table as printed: rows (pretrain, metric), columns the structures and Avg; ValueError for an unknown name.

    >>> paper_table("1a").loc[("Ours", "DSC")].to_dict()
    {'Organ': 92.29, 'Tumor': 72.57, 'Avg': 82.43}
    """
    t = tables()
    names = list(dict.fromkeys(t["table"]))
    if table not in names:
        raise ValueError(f"the paper has no table {table!r}: choose one of {', '.join(names)}")
    cells = t[(t["table"] == table) & t["value"].notna()]
    wide = cells.pivot(index=["pretrain", "metric"], columns="structure", values="value")
    rows = list(dict.fromkeys(zip(cells["pretrain"], cells["metric"], strict=True)))
    return wide.loc[rows, list(dict.fromkeys(cells["structure"]))]


def paper_value(dataset: str, pretrain: str, metric: str, structure: str, table: str = "1") -> float | None:
    """One cell, such as paper_value("KiTS", "Ours", "DSC", "Tumor"); None if the paper has no such cell.

    >>> paper_value("KiTS", "Ours", "DSC", "Tumor")
    72.57
    """
    t = tables()
    found = t[
        t["table"].str.startswith(table)
        & (t["dataset"] == dataset)
        & (t["pretrain"] == pretrain)
        & (t["metric"] == metric)
        & (t["structure"] == structure)
    ]["value"].dropna()
    return None if found.empty else float(found.iloc[0])


def paper_scores(
    cohort: str, method: str, structures: Sequence[str], metric: str = "DSC", table: str = "1"
) -> dict[str, float]:
    """The paper's values of one method on a cohort, by this study's names of structures; empty if it has none.

    metric: "DSC" in % or "HD_mm". `Average` is over these structures, and there if the paper has all of them.

    >>> paper_scores("KiTS19", "full", ["Kidney", "Tumour"])
    {'Kidney': 92.29, 'Tumour': 72.57, 'Average': 82.43}
    """
    dataset, pretrain = DATASETS.get(_plain(cohort)), PRETRAIN.get(method)
    if dataset is None or pretrain is None:
        return {}
    shared = _shared(dataset, structures)
    found = {s: paper_value(dataset, pretrain, metric, name, table) for s, name in shared.items()}
    values = {structure: value for structure, value in found.items() if value is not None}
    complete = values and len(values) == len(structures)
    return values | ({"Average": round(_mean(values), 2)} if complete else {})


def beside_paper(rows: pd.DataFrame, *, cohort: str, table: str = "1", missing: Missing = "refuse") -> Table | None:
    """The paper's values below ours with the difference; None if the cohort, its structures or methods are not its.

    rows: the study's rows of one cohort. cohort: a name such as "KiTS19", "Pelvic" or "HeadNeck". table: "1"
    (comparison) or "2" (pre-training on the downstream training set). Averages are over the structures that both have.
    missing: what becomes of absent scores, as in `comparison_table`.
    """
    dataset = DATASETS.get(_plain(cohort))
    if dataset is None:
        return None
    shared = _shared(dataset, list(dict.fromkeys(rows["structure"])))
    known = set(tables()[tables()["table"].str.startswith(table)]["pretrain"])
    methods = [m for m in dict.fromkeys(rows["method"]) if PRETRAIN.get(m) in known]
    if not shared or not methods:
        return None
    rows = complete_rows(rows)
    rows = rows[rows["structure"].isin(shared)]
    volumes = owed_scores(rows, methods, missing=missing, with_slices=False).volumes
    here = _ours(volumes, methods, list(shared))
    there = {m: _theirs(dataset, PRETRAIN[m], shared, table) for m in methods}
    lines = []
    for method in methods:
        for metric, unit in (("DSC", "%"), ("HD", "mm")):
            ours, theirs = here[method][metric], there[method][metric]
            lines.append({"metric": f"{metric} ({unit}), this study"} | {c: _number(v) for c, v in ours.items()})
            lines.append({"metric": f"{metric} ({unit}), paper"} | {c: _number(v) for c, v in theirs.items()})
            lines.append({"metric": f"{metric}, difference"} | {c: _signed(ours[c] - theirs[c]) for c in ours})
        for line, name in zip(lines[-6:], [method, *[""] * 5], strict=True):
            line["method"] = name
    frame = pd.DataFrame(lines, columns=["method", "metric", *shared, "Average"])
    caption = (
        "This study's values, the paper's, and the difference. Levels can be compared only if scans, splits and "
        "settings are the paper's; the gain of one method over another is the fairer comparison."
    )
    card = (*_verdicts(here, there), *_notes(dataset, shared, table))
    return Table(f"Beside the paper's Table {table}, {dataset}", caption, card, frame, pd.DataFrame(), frozenset())


def _shared(dataset: str, structures: Sequence[str]) -> dict[str, str]:
    """The paper's abbreviation of each structure that it has, too."""
    names = STRUCTURES[dataset] | {_plain(s): s for s in STRUCTURES[dataset].values()}
    return {s: names[_plain(s)] for s in structures if _plain(s) in names}


def _ours(volumes: pd.DataFrame, methods: list[str], structures: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """For each method DSC and HD by structure, the average last, as in every other table."""
    means: dict[str, dict[str, dict[str, float]]] = {method: {} for method in methods}
    for short, name in (("DSC", "dice"), ("HD", "hausdorff")):
        table = score_table(volumes, METRICS[name], methods, structures)
        for method in methods:
            each = {s: table.mean(method, s) for s in structures}
            means[method][short] = each | {"Average": table.mean(method, None)}
    return means


def _theirs(dataset: str, pretrain: str, shared: dict[str, str], table: str) -> dict[str, dict[str, float]]:
    values = {}
    for metric, key in (("DSC", "DSC"), ("HD", "HD_mm")):
        found = {s: paper_value(dataset, pretrain, key, name, table) for s, name in shared.items()}
        known = {s: math.nan if v is None else v for s, v in found.items()}
        values[metric] = known | {"Average": _mean(known)}
    return values


def _verdicts(here: dict[str, dict[str, dict[str, float]]], there: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """For each method: its gain in average DSC over random initialisation, here and in the paper."""
    said = []
    for method in here:
        if method != "random" and "random" in here:
            ours, theirs = (v[method]["DSC"]["Average"] - v["random"]["DSC"]["Average"] for v in (here, there))
            if math.isnan(ours * theirs):
                continue
            same = "the same direction as" if ours * theirs > 0 else "not the direction of"
            said.append(
                f"Average DSC of {method} minus random: {_signed(ours)} points here, {_signed(theirs)} in the paper: "
                f"{same} the paper's; whether it is significant is for the table above to say"
            )
    return said


def _notes(dataset: str, shared: dict[str, str], table: str) -> list[str]:
    cells = tables()[(tables()["dataset"] == dataset) & tables()["table"].str.startswith(table)]
    missing = [s for s in dict.fromkeys(cells["structure"]) if s not in {*shared.values(), "Avg"}]
    wrong = claims()[(claims()["dataset"] == dataset) & (claims()["status"] == "MISMATCH")]
    wrong = wrong[wrong["claim_id"].str.startswith(f"T{table}")]
    return [
        f"The paper's samples are {cells['n_samples'].iloc[0]} test slices; this study's values are 3-D, over patients",
        *([f"Left out of both averages, for want of our values: {', '.join(missing)}"] if missing else []),
        *(
            f"The paper's text says {row.stated} ({row.description}); its own table gives {row.recomputed}"
            for row in wrong.itertuples()
        ),
    ]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _mean(values: dict[str, float]) -> float:
    known = [v for v in values.values() if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _signed(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.2f}"
