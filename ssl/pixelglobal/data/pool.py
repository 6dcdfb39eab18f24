"""A pool: the scans of several prepared cohorts, prepared alike, that one pre-training sees together.

A pool offers what a pre-training reads of a `Store`, so that it serves wherever a single cohort does.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from pixelglobal.data.fingerprint import Fingerprint
from pixelglobal.data.store import Normalization, Store, normalization_of
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.seeds import derive

PREPARED_ALIKE = ("image_size", "hu_min", "hu_max", "in_plane_spacing_mm", "antialias", "channels")


class Scans(Protocol):
    """What a pre-training reads: of a store, or of a pool of several."""

    @property
    def root(self) -> Path:
        """The folder that messages name."""
        ...

    @property
    def name(self) -> str:
        """The name of the cohort or of all sources."""
        ...

    @property
    def hu_min(self) -> float:
        """The lower end of the clip."""
        ...

    @property
    def hu_max(self) -> float:
        """The upper end of the clip."""
        ...

    @property
    def channels(self) -> int:
        """Channels of a slice."""
        ...

    @property
    def grid(self) -> StoredGrid:
        """How slices are made of scans."""
        ...

    @property
    def cases(self) -> pd.DataFrame:
        """One row per scan, see `Store.cases`."""
        ...

    def paths(self, cases: Sequence[str]) -> list[Path]:
        """The slice files of cases, each as often as it is named."""
        ...

    def n_slices(self, cases: Sequence[str]) -> int:
        """Slices of cases together."""
        ...

    def normalization(self, cases: Sequence[str]) -> Normalization:
        """Mean and spread of the HU of cases, each of which counts once."""
        ...

    def fingerprint(self, case: str) -> Fingerprint:
        """What tells a scan apart from those of other patients."""
        ...


@dataclass(frozen=True)
class Source:
    """What one store gives to a pool."""

    name: str
    store: Store
    cases: tuple[str, ...]  # in the order of their names
    copies: tuple[int, ...]  # how often an epoch shows each of them

    @property
    def n_slices(self) -> int:
        """Slices of an epoch that are of this source."""
        counts = self.store.cases.set_index("case")["n_slices"]
        return int(sum(counts[case] * n for case, n in zip(self.cases, self.copies, strict=True)))

    @property
    def voxels_digest(self) -> str:
        """A hash of the voxels of its scans, whatever their names and order."""
        rows = self.store.cases[self.store.cases["case"].isin(self.cases)]
        return hashlib.blake2b("".join(sorted(rows["sha256"])).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Pool:
    """Two or more sources, in an order that does not depend on the order in which they were given.

    A scan is called `SOURCE/CASE` and a patient `SOURCE/PATIENT`: two cohorts may use one name for different patients.
    """

    sources: tuple[Source, ...]

    @property
    def root(self) -> Path:
        """The folder of the first store, for messages."""
        return self.sources[0].store.root

    @property
    def name(self) -> str:
        """The names of the sources."""
        return " + ".join(source.name for source in self.sources)

    @property
    def hu_min(self) -> float:
        """The lower end of the clip, which all sources share."""
        return self.sources[0].store.hu_min

    @property
    def hu_max(self) -> float:
        """The upper end of the clip, which all sources share."""
        return self.sources[0].store.hu_max

    @property
    def channels(self) -> int:
        """Channels of a slice, which all sources share."""
        return self.sources[0].store.channels

    @property
    def grid(self) -> StoredGrid:
        """How slices are made of scans, which all sources share."""
        return self.sources[0].store.grid

    @property
    def scans(self) -> tuple[str, ...]:
        """What an epoch shows, by name; a scan of a source with a greater weight is there several times."""
        return tuple(
            f"{source.name}/{case}"
            for source in self.sources
            for case, n in zip(source.cases, source.copies, strict=True)
            for _ in range(n)
        )

    @property
    def shares(self) -> dict[str, float]:
        """Of each source, the share of its slices among those of an epoch."""
        counts = {source.name: source.n_slices for source in self.sources}
        return {name: count / sum(counts.values()) for name, count in counts.items()}

    @cached_property
    def cases(self) -> pd.DataFrame:
        """The rows of the scans of all sources, with their names in the pool."""
        parts = []
        for source in self.sources:
            rows = source.store.cases[source.store.cases["case"].isin(source.cases)]
            names = {column: source.name + "/" + rows[column] for column in ("case", "patient")}
            parts.append(rows.assign(**names, source=source.name))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {f"{s.name}/{case}": s.store.path(case) for s in self.sources for case in s.cases}

    def paths(self, cases: Sequence[str]) -> list[Path]:
        """The slice files of scans, each as often as it is named."""
        return [self._files[case] for case in cases]

    def n_slices(self, cases: Sequence[str]) -> int:
        """Slices of scans together, each counted as often as it is named."""
        counts = self.cases.set_index("case")["n_slices"]
        return int(sum(counts[case] * n for case, n in Counter(cases).items()))

    def normalization(self, cases: Sequence[str]) -> Normalization:
        """Mean and spread over every stored pixel of scans, each of which counts once."""
        return normalization_of(self.cases[self.cases["case"].isin(list(cases))])

    def fingerprint(self, case: str) -> Fingerprint:
        """What tells a scan apart from those of other patients."""
        name, _, case_there = case.rpartition("/")
        return next(source.store for source in self.sources if source.name == name).fingerprint(case_there)


def pool_of(stores: Sequence[Store], weights: str | Mapping[str, float] = "proportional") -> Scans:
    """The pre-training splits of some stores as one pool; a single store is its own pool.

    weights: how often slices of each source are shown. "proportional": every scan once. "balanced": each source
    equally often. Numbers by the name of the source: in that proportion. Scans are repeated until the shares are
    right, to within half a scan of the source; none is left out.
    Raises ValueError if the stores were prepared differently, if one has no scans for pre-training or is given twice,
    or if the weights are not one positive number for each source.
    """
    refuse_different_preparation(stores)
    for store in stores:
        if not store.splits.pretrain:
            raise ValueError(
                f"{store.root} has no scans in its pretrain split, so it adds nothing to a pool; leave it out"
            )
    names = distinct_names(stores)
    if len(stores) == 1:
        _weight_of(weights, names)
        return stores[0]
    once = [
        Source(name, store, cases, (1,) * len(cases))
        for name, store in zip(names, stores, strict=True)
        for cases in [tuple(sorted(store.splits.pretrain))]
    ]
    once.sort(key=lambda source: source.voxels_digest)
    for a, b in itertools.pairwise(once):
        if a.voxels_digest == b.voxels_digest:
            raise ValueError(f"{a.store.root} and {b.store.root} hold the same scans; give one of them to the pool")
    return Pool(tuple(_repeated(once, weights)))


def refuse_different_preparation(stores: Sequence[Store]) -> None:
    """Raise ValueError if stores whose slices one network sees do not have the same clip, grid and spacing."""
    first = stores[0]
    for store in stores[1:]:
        for name in PREPARED_ALIKE:
            ours, theirs = getattr(first, name), getattr(store, name)
            if ours != theirs:
                raise ValueError(
                    f"{store.root} was prepared with {name}={theirs}, {first.root} with {name}={ours}; what one "
                    f"network sees is prepared in one way. Prepare one of them again with the other's prepare.{name}"
                )


def distinct_names(stores: Sequence[Store]) -> list[str]:
    """The name of each store's cohort, with the store's folder where two would be the same."""
    names = [store.name for store in stores]
    return [n if names.count(n) == 1 else f"{n} {store.root.name}" for n, store in zip(names, stores, strict=True)]


def _weight_of(weights: str | Mapping[str, float], names: Sequence[str]) -> dict[str, float] | None:
    """The weight of each source; None if every scan is to be shown once."""
    if weights == "proportional":
        return None
    if isinstance(weights, str):
        return dict.fromkeys(names, 1.0)
    if set(weights) != set(names) or not all(math.isfinite(w) and w > 0 for w in weights.values()):
        raise ValueError(
            f"pretrain.source_weights={dict(weights)}: expected one positive number for each of {', '.join(names)}, or "
            "balanced, or proportional"
        )
    return dict(weights)


def _repeated(sources: Sequence[Source], weights: str | Mapping[str, float]) -> list[Source]:
    """The sources with their scans repeated to the wanted shares; the source that has most for its weight once."""
    wanted = _weight_of(weights, [source.name for source in sources])
    if wanted is None:
        return list(sources)
    longest = max(source.n_slices / wanted[source.name] for source in sources)
    repeated = []
    for source in sources:
        times = longest * wanted[source.name] / source.n_slices
        whole, more = int(times), round((times - int(times)) * len(source.cases))
        order = np.random.default_rng(derive(0, "pool", source.voxels_digest)).permutation(len(source.cases))
        extra = set(order[:more].tolist())
        copies = tuple(whole + (i in extra) for i in range(len(source.cases)))
        repeated.append(Source(source.name, source.store, source.cases, copies))
    return repeated
