"""What stands below every table of metrics: how its numbers were made and what they cannot say."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from pixelglobal.tables.table import DIFFERS

ALPHA = 0.05  # of corrected p-values that earn a mark


Claim = Literal["checkpoint", "method"]  # what a star is about


def metric_card(
    rows: pd.DataFrame,
    volumes: pd.DataFrame,
    fixed: pd.DataFrame,
    unit: str,
    test: str,
    correction: str,
    claim: Claim,
    family: int,
) -> tuple[str, ...]:
    """One sentence each for units, metrics, empty masks, the average, the test and its limits. rows: all that the table
    is made of; volumes and fixed: those of whole scans and of the fixed set of slices; family: comparisons in it."""
    undefined = int(volumes["dice"].isna().sum())
    missed = int(np.isinf(volumes["hausdorff_mm"]).sum())
    slices = fixed[["case", "slice_index"]].drop_duplicates()
    seeds = rows.groupby("method")["seed"].nunique()
    shown = "2-D over slices" if unit == "slice" else "3-D over patients, on the grid of the original scan"
    tests = {"sign_flip": "sign-flip permutation of the mean", "wilcoxon": "Wilcoxon signed rank", "t": "paired t"}
    return (
        f"{rows['patient'].nunique()} patients, {len(slices)} slices, "
        f"{seeds.min() if seeds.min() == seeds.max() else f'{seeds.min()} to {seeds.max()}'} training runs a method",
        f"DSC and HD are {shown}; HD is the maximum over contour points (100th percentile)",
        "A missed structure has DSC 0 and an infinite HD, which enters the mean as the image's diagonal; "
        f"{missed} missed; a structure in neither prediction nor reference is not applicable: {undefined} values",
        "Average: unweighted mean of the structures' means; its test takes each patient's mean over the patient's own "
        "structures, and has no mark where the two differ in sign; fewer than 2 patients are not tested",
        (f"Test: {tests[test]}, two-sided, paired" if claim == "checkpoint" else "Test: Welch's t over run means")
        + (
            f", over {'patients; below it over slices' if unit == 'both' else unit + 's'}"
            if claim == "checkpoint"
            else ""
        )
        + f"; {correction} correction over the {family} comparisons of this table",
        *_smallest_p(rows["patient"].nunique(), family, unit, test, correction, claim),
        *(
            [
                "Slices of one patient are not independent: the slice test is the paper's way and raises false alarms"
                + (f"; '{DIFFERS}': its mark is not that of the patients" if unit == "both" else "")
            ]
            if unit != "patient" and claim == "checkpoint"
            else []
        ),
    )


def _smallest_p(patients: int, family: int, unit: str, test: str, correction: str, claim: Claim) -> list[str]:
    """A warning where the exact test cannot reach a mark whatever the effect: n units have 2^n sign patterns."""
    comparisons = 1 if correction in ("none", "bh") else family
    smallest = min(1.0, comparisons * 2 / 2.0**patients)
    if unit == "slice" or test != "sign_flip" or claim != "checkpoint" or smallest < ALPHA:
        return []
    return [
        f"With {patients} patients and {family} comparisons no corrected p over patients can be below {smallest:.3f}: "
        "however large an effect is, it cannot earn a mark here"
    ]
