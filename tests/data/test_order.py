"""The order of slices is a function of the seed and the numbers of pass, worker and slice, and it mixes scans."""

import numpy as np
import pytest

from pixelglobal.data.order import DELAY_UNITS, SliceOrder

SCANS = (40, 16, 5, 33, 70)  # 3 + 1 + 1 + 3 + 5 units


def slices_of(order, turn):
    """(scan, slice index) of every slice of a pass as it is seen."""
    found = []
    for number, place in zip(*(column.tolist() for column in order.pass_(turn)), strict=True):
        unit = order.unit(number)
        assert number // order.units_per_pass == turn
        assert place < unit.n_slices
        found.append((unit.scan, unit.first + place))
    return found


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_workers_see_every_slice_once_in_a_pass(workers):
    everything = sorted((scan, i) for scan, n in enumerate(SCANS) for i in range(n))
    for turn in (0, 7):
        seen = [s for rank in range(workers) for s in slices_of(SliceOrder(SCANS, 0, rank, workers), turn)]
        assert sorted(seen) == everything


def test_a_unit_is_of_one_scan_and_has_at_most_sixteen_neighbours():
    order = SliceOrder(SCANS, 0)
    units = sorted(order.unit(number) for number in range(order.units_per_pass))
    assert [(u.first, u.n_slices) for u in units if u.scan == 4] == [(0, 16), (16, 16), (32, 16), (48, 16), (64, 6)]
    assert [u.n_slices for u in units if u.scan in (1, 2)] == [16, 5]


def test_seed_pass_and_worker_change_the_order_and_nothing_else_does():
    first = slices_of(SliceOrder(SCANS, 0), 0)
    assert first == slices_of(SliceOrder(SCANS, 0), 0)
    assert first != slices_of(SliceOrder(SCANS, 1), 0)
    assert first != slices_of(SliceOrder(SCANS, 0), 1)
    assert slices_of(SliceOrder(SCANS, 0, 1, 2), 0) != slices_of(SliceOrder(SCANS, 0, 0, 2), 0)


def test_the_order_of_this_version_stays():
    """A change of it is a change of every pre-training: raise the number of the stage in experiments/runner/stages."""
    assert slices_of(SliceOrder(SCANS, 0), 0)[:6] == [(0, 31), (4, 36), (4, 28), (3, 9), (3, 13), (4, 21)]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_number_leads_to_its_place(workers):
    order = SliceOrder(SCANS, 0, workers - 1, workers)
    walk = [(turn, i) for turn in range(4) for i in range(len(order.pass_(turn)[0]))]
    assert [order.locate(number) for number in range(len(walk))] == walk


def test_a_slice_waits_for_few_units_and_only_for_units_that_are_read():
    order = SliceOrder((220,) * 40, 0)
    units, _ = order.pass_(0)
    newest = np.maximum.accumulate(units)  # what must have been read
    assert (newest - units).max() <= DELAY_UNITS
    read = np.minimum((newest + 1) * 16, len(units))
    assert (read - np.arange(1, len(units) + 1)).max() < DELAY_UNITS * 16 * 0.7  # held, or next to come


def test_batches_have_many_patients():
    """1,000 scans: a batch of 8 has almost as many patients as one of slices drawn anywhere."""
    order = SliceOrder((220,) * 1000, 0)
    units, _ = order.pass_(0)
    scans = np.array([order.unit(number).scan for number in range(order.units_per_pass)])[units]
    batches = scans[: len(scans) // 8 * 8].reshape(-1, 8)[200:3000]
    assert np.mean([len(set(batch)) for batch in batches]) > 0.95 * 8


def test_too_few_slices_for_the_workers_are_refused():
    with pytest.raises(ValueError, match=r"20 slices are read in 2 groups, too few for 3 workers; lower cluster\.pret"):
        SliceOrder((20,), 0, 0, 3)
