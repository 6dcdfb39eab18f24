"""Cohorts side by side: one table and one figure of all, with the paper's numbers where cohort and method are its."""

import pandas as pd
import pytest

from experiments.report.cohorts import bars, cohorts_picture, cohorts_table
from experiments.report.from_rows import cohorts_of, compact_tables
from experiments.report.palette import looks
from experiments.studies import STUDIES
from tests.support import rows_of, wave

STUDY = STUDIES["comparison"]
STRUCTURES = {"KiTS": ("Kidney", "Tumour"), "Pelvic": ("Bladder", "Bowel"), "Neck": ("A", "B")}
METHODS = looks(["random", "gpc", "full"])


@pytest.fixture(scope="module")
def results():
    """Three cohorts: one of the paper's, one of which the paper has a structure, and one that it does not have."""
    scores = {m: lambda seed, i, s, m=m: 0.6 + 0.1 * list(METHODS).index(m) + wave(i) for m in METHODS}
    parts = [rows_of(scores, (0, 1, 2), names).assign(cohort=cohort) for cohort, names in STRUCTURES.items()]
    words = {method: look.words for method, look in METHODS.items()}
    return {one.cohort: compact_tables(STUDY, one, words) for one in cohorts_of(STUDY, pd.concat(parts))}


def cell(table, cohort, structure, column):
    frame = table.frame.set_index(["cohort", "structure"])
    return frame.loc[(cohort, structure), column]


def test_every_cohort_and_structure_has_a_line_with_the_paper_s_value_in_brackets(results):
    [table] = cohorts_table(results, "1")
    assert [*zip(table.frame["cohort"], table.frame["structure"], strict=True)] == [
        (cohort, structure) for cohort, names in STRUCTURES.items() for structure in ("Average", *names)
    ]
    ours = {made.metric.name: made for made in results["KiTS"] if made.unit == "patient"}["dice"].cells["full"]
    column = "DSC (%), Pixel-global (ours)"
    assert cell(table, "KiTS", "Tumour", column) == f"{ours['Tumour'].mean:.2f} [72.57]"
    assert cell(table, "KiTS", "Average", column) == f"{ours['Average'].mean:.2f} [82.43]"
    assert cell(table, "KiTS", "Kidney", "HD (mm), Random initialisation").endswith(" [30.94]")
    assert "[" not in cell(table, "KiTS", "Tumour", "DSC (%), With context stabiliser (GPC)")
    assert cell(table, "Pelvic", "Bladder", column).endswith(" [95.01]")
    assert "[" not in cell(table, "Pelvic", "Average", column), "the paper has no bowel, so no average over both"
    assert "[" not in "".join(table.frame[table.frame["cohort"] == "Neck"].iloc[:, 2:].to_numpy().ravel())
    for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_html()):
        assert "72.57" in text


@pytest.mark.usefixtures("figures_closed")
def test_bars_are_the_averages_and_the_paper_s_are_there_where_it_has_all_structures(results):
    found = {(bar["cohort"], bar["method"]): bar["paper"] for bar in bars(results, "1")}
    assert len(found) == 9
    assert {key: value for key, value in found.items() if value is not None} == {
        ("KiTS", "random"): 71.72, ("KiTS", "full"): 82.43,
    }  # fmt: skip
    [picture] = cohorts_picture(results, METHODS, "1")
    assert [axis.get_title() for axis in picture.figure.axes] == list(STRUCTURES)
    assert [len(axis.patches) for axis in picture.figure.axes] == [3 + 2, 3, 3]
    assert "KiTS, Pixel-global (ours): " in picture.alt
    assert "in the paper 82.4 %" in picture.alt


def test_a_single_cohort_has_neither(results):
    alone = {"KiTS": results["KiTS"]}
    assert cohorts_table(alone, "1") == cohorts_picture(alone, METHODS, "1") == []
