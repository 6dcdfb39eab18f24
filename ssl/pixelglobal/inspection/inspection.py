"""A store inspected: suspects, the census of its labels, and one line for each kind of thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from pixelglobal.data.checks.kinds import KINDS, ORDER, Suspect
from pixelglobal.data.store import Store
from pixelglobal.inspection.cohort import suspects_of_cohort

CENSUS = ["case", "structure", "voxels", "ml", "components", "median_hu", "column_mm", "stored", "outside_crop",
          "at_crop"]  # fmt: skip
SHOWN = 3  # cases that a line names


@dataclass(frozen=True)
class Inspection:
    """What was found in one store.

    suspects: without the quarantined cases, the worst kind first. census: one row for each structure of each case that
    is not quarantined: voxels, ml, components, median_hu (before clipping), column_mm (mean place from the patient's
    left to the right), and the voxels on the stored grid that are stored, outside of the crop, and at its border.
    histograms: {case: voxels in bins of 50 HU}, as `measure.Values.histogram`, with the quarantined cases.
    """

    store: Store
    suspects: tuple[Suspect, ...]
    census: pd.DataFrame
    histograms: dict[str, list[int]]

    @property
    def by_kind(self) -> dict[str, list[Suspect]]:
        """Suspects by their kind, the worst first; kinds without any are left out."""
        of_kind = {kind: [s for s in self.suspects if s.kind == kind] for kind in ORDER}
        return {kind: suspects for kind, suspects in of_kind.items() if suspects}

    @property
    def notes(self) -> list[str]:
        """What was noticed while the scans were read, one sentence each."""
        return [f"{note}." for note in self.store.notes]

    @property
    def findings(self) -> list[str]:
        """One sentence for each kind of thing: what the crop cuts off, suspects, quarantined cases."""
        return list(self._findings())

    def _findings(self) -> Iterator[str]:
        cut = self.census[self.census["outside_crop"] > 0]
        if len(cut):
            of_names = cut.groupby("structure")["outside_crop"].sum()
            names = ", ".join(f"{name} {count:,}" for name, count in of_names.items())
            yield f"The crop cuts labelled voxels off in {cut['case'].nunique()} scans: {names}."
        for kind, suspects in self.by_kind.items():
            shown = "; ".join(f"{s.case}: {s.seen}" for s in suspects[:SHOWN])
            more = f"; and {len(suspects) - SHOWN} more" if len(suspects) > SHOWN else ""
            cases = len({s.case for s in suspects})
            yield f"Suspect, {KINDS[kind].words}, {cases} of {self.n_cases} scans: {shown}{more}. {KINDS[kind].advice}"
        if quarantined := self.store.quarantine:
            yield (
                f"{len(quarantined)} scans are quarantined, so that no split has them: "
                f"{', '.join(list(quarantined)[:SHOWN])}{', ...' if len(quarantined) > SHOWN else ''}; the reasons are "
                f"in {self.store.root / 'quarantine.csv'}."
            )
        if not self.suspects:
            yield f"Nothing is suspect in the {self.n_cases} scans that are not quarantined."

    @property
    def n_cases(self) -> int:
        """Scans that are not quarantined."""
        return len(set(self.store.cases["case"]) - set(self.store.quarantine))


def inspect(store: Store, *, compare_scans: bool = True) -> Inspection:
    """Judge the scans and labels of a store by what `prepare` measured, each by itself and beside its cohort.

    compare_scans: look for near-duplicates, too. Raises ValueError if an older version, which measured nothing,
    prepared the store.
    """
    suspects: list[Suspect] = []
    census: list[dict[str, object]] = []
    histograms = {}
    for case in store.cases["case"]:
        checks = store.checks(case)
        histograms[case] = checks["histogram"]
        if case not in store.quarantine:
            suspects += [Suspect(case, **one) for one in checks["suspects"]]
            census += [{"case": case, "structure": name, **facts} for name, facts in checks["structures"].items()]
    table = pd.DataFrame(census, columns=CENSUS)
    suspects += suspects_of_cohort(store, table, compare_scans)
    suspects.sort(key=lambda suspect: (ORDER.index(suspect.kind), suspect.case))
    return Inspection(store, tuple(suspects), table, histograms)
