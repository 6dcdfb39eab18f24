"""A pool: one preparation, names that stay apart, an order of its own, and shares that are what was asked for."""

import collections
import json
from itertools import islice

import numpy as np
import pytest

from pixelglobal.config import with_settings
from pixelglobal.data.pool import Pool, pool_of
from pixelglobal.data.stream import LocalStream
from tests.support import phantom_store


@pytest.fixture(scope="module")
def stores(tiny, tmp_path_factory):
    """Two cohorts whose cases have the same names: 2 and 6 scans for pre-training."""
    folder = tmp_path_factory.mktemp("pool")
    return [
        phantom_store(folder, tiny, "Small", seed=1, n_patients=4, n_unlabelled=0),
        phantom_store(folder, tiny, "Large", seed=2, n_patients=4, n_unlabelled=4),
    ]


def one_pass(pool):
    """The batches of a pass over what an epoch of a pool shows: each scan has 8 slices."""
    stream = LocalStream(pool, pool.scans, batch_size=4, seed=0)
    assert stream.n_slices == pool.n_slices(pool.scans) == 8 * len(pool.scans)
    return list(islice(stream.batches(0), stream.n_slices // 4))


def test_a_pool_does_not_depend_on_the_order_of_its_sources(stores):
    a, b = pool_of(stores), pool_of(stores[::-1])
    assert a.scans == b.scans
    assert {source.name for source in a.sources} == {"Small", "Large"}


def test_patients_of_two_cohorts_with_one_name_stay_two_patients(stores):
    pool = pool_of(stores)
    assert set(stores[0].splits.pretrain) & set(stores[1].splits.pretrain)
    assert len(set(pool.cases["case"])) == len(pool.cases) == len(set(pool.scans))
    assert len({patient for batch in one_pass(pool) for patient in batch.patient}) == len(pool.scans)


def test_the_z_score_is_over_the_pool(stores):
    pool = pool_of(stores, "balanced")
    pixels = np.concatenate(
        [s.read_case(case).image_hu.numpy().ravel() for s in stores for case in s.splits.pretrain]
    ).astype(float)
    facts = pool.normalization(pool.scans)
    assert facts.mean_hu == pytest.approx(pixels.mean())
    assert facts.std_hu == pytest.approx(pixels.std())


@pytest.mark.parametrize(
    ("weights", "share"), [("proportional", 0.25), ("balanced", 0.5), ({"Small": 3, "Large": 1}, 0.75)]
)
def test_shares_are_those_asked_for_and_no_scan_is_left_out(stores, weights, share):
    pool = pool_of(stores, weights)
    assert pool.shares["Small"] == pytest.approx(share)
    counts = collections.Counter(case for batch in one_pass(pool) for case in batch.case)
    assert set(counts) == set(pool.cases["case"])
    small = sum(n for name, n in counts.items() if name.startswith("Small/"))
    assert small / sum(counts.values()) == pytest.approx(share)


def test_weights_that_name_no_source_are_refused(stores):
    with pytest.raises(ValueError, match=r"source_weights=.*one positive number for each of "):
        pool_of(stores, {"Small": 1, "large": 1})
    with pytest.raises(ValueError, match="one positive number for each of "):
        pool_of(stores, {"Small": 1, "Large": 0})


@pytest.mark.parametrize("change", [{"hu_max": 300.0}, {"image_size": 64}, {"in_plane_spacing_mm": 9.0}])
def test_sources_that_were_prepared_differently_are_refused_with_both_values(stores, tiny, tmp_path, change):
    [(name, value)] = change.items()
    other = phantom_store(tmp_path, with_settings(tiny, prepare=change), "Other", seed=3)
    ours = getattr(stores[0], name)
    with pytest.raises(ValueError, match=rf"prepared with {name}={value}, .* with {name}={ours}; .*prepare\.{name}"):
        pool_of([stores[0], other])


def test_a_store_given_twice_or_without_scans_is_refused(stores, tmp_path):
    with pytest.raises(ValueError, match="hold the same scans"):
        pool_of([stores[0], stores[0]])
    path = stores[0].root / "splits.json"
    lists = json.loads(path.read_text())
    import shutil

    from pixelglobal.data.store import Store

    copy = shutil.copytree(stores[0].root, tmp_path / "copy")
    (copy / "SHA256SUMS").unlink()
    (copy / "splits.json").write_text(json.dumps({**lists, "pretrain": []}))
    with pytest.raises(ValueError, match="no scans in its pretrain split"):
        pool_of([Store.open(copy), stores[1]])


def test_a_single_store_is_its_own_pool(stores):
    assert pool_of(stores[:1]) is stores[0]
    assert isinstance(pool_of(stores), Pool)
