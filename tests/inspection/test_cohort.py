"""What shows only beside the other cases: exchanged sides, unusual structures, copies under another name."""

import shutil

import numpy as np
import pandas as pd
import pytest

from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.data.store import Store
from pixelglobal.files import read_json_object, write_json
from pixelglobal.inspection.cohort import outliers, swapped_sides
from pixelglobal.inspection.inspection import inspect
from tests.data.test_checks import rewrite


def census_of(**columns):
    return pd.DataFrame({"case": [f"c{i}" for i in range(len(next(iter(columns.values()))))], **columns})


def test_the_odd_side_out_is_seen_whichever_side_is_usual():
    places = {"Left": [10, 10, 90, 10], "Right": [90, 90, 10, 90]}
    census = pd.concat([census_of(column_mm=mm).assign(structure=name) for name, mm in places.items()])
    for pair in (("Left", "Right"), ("Right", "Left")):
        [suspect] = swapped_sides(census, [pair])
        assert (suspect.case, suspect.kind) == ("c2", "swapped")
        assert "the other way round than in 3 of 4 scans" in suspect.seen
    assert not list(swapped_sides(census[census["case"] < "c2"], [("Left", "Right")]))  # two scans have no majority
    assert not list(swapped_sides(census, [("Left", "Elsewhere")]))


@pytest.mark.parametrize(("column", "kind", "odd", "unit"), [("ml", "unusual_size", 900, "ml"),
                                                             ("median_hu", "unusual_hu", -424, "HU")])  # fmt: skip
def test_outliers_are_far_from_the_median_of_enough_scans(column, kind, odd, unit):
    values = 100 + 10 * np.sin(np.arange(12.0))
    values[5] = odd
    census = census_of(**{column: values}).assign(structure="Liver")
    [suspect] = outliers(census, column, kind)
    assert (suspect.case, suspect.kind) == ("c5", kind)
    assert f"Liver has {odd} {unit}; the median of 12 scans is" in suspect.seen
    assert not list(outliers(census.iloc[:7], column, kind))
    usual = census[census["case"] != "c5"]
    assert not list(outliers(usual, column, kind))
    assert not list(outliers(usual.assign(**{column: 100.0}), column, kind))


def test_a_cohort_is_inspected(tmp_path, tiny):
    """One mirrored scan, one copy under another name, one line that a person wrote, each with its numbers."""
    scans = make_phantom_cohort(tmp_path / "scans", n_patients=4, n_unlabelled=2, size=32, n_slices=8)
    rewrite(scans, "phantom_001", label=lambda a: np.array([0, 1, 2, 4, 3], np.uint8)[a])
    shutil.copy(scans / "imagesTr/phantom_004.nii.gz", scans / "imagesTr/phantom_005.nii.gz")
    store = prepare(scans, tmp_path / "store", tiny.prepare).store
    found = inspect(store)
    assert {(s.kind, s.case) for s in found.suspects} >= {("swapped", "phantom_001"), ("near_duplicate", "phantom_004")}
    assert "near_duplicate" not in inspect(store, compare_scans=False).by_kind
    [line] = [line for line in found.findings if line.startswith("Suspect, left and right")]
    assert "1 of 6 scans: phantom_001: LeftFemur and RightFemur lie the other way round than in 3 of 4 scans." in line
    assert line.endswith("or names are exchanged.")
    assert len(found.census) == 4 * 4
    (store.root / "quarantine.csv").write_text("case,reason\nphantom_001,mirrored\nphantom_005,a copy\n")
    after = inspect(Store.open(store.root), compare_scans=False)
    assert {s.case for s in after.suspects}.isdisjoint({"phantom_001", "phantom_005"})
    assert after.n_cases == 4
    assert "2 scans are quarantined, so that no split has them: phantom_001, phantom_005; the reasons are in" in (
        after.findings[-2] if not after.suspects else after.findings[-1]
    )


def test_a_store_of_an_older_version_is_refused(store, tmp_path):
    copy = Store.open(shutil.copytree(store.root, tmp_path / "store"))
    record = copy.root / "records/phantom_000.json"
    write_json(record, {k: v for k, v in read_json_object(record).items() if k != "checks"})
    with pytest.raises(
        ValueError, match=r"prepared before scans were checked \(phantom_000\); prepare the cohort into"
    ):
        inspect(copy)
