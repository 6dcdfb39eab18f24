"""The labelled slices of each step: half of them by structure, the others equally often, whatever the workers."""

from collections import Counter

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.data.slices import SliceBatch
from pixelglobal.training.labelled import (
    SliceSampler,
    class_frequencies,
    count_training_slices,
    training_slices,
)


def drawn(slices, config, steps, workers):
    """(case, slice) of every step, the workers' shares one after the other."""
    sampler = SliceSampler(slices, config)
    return [
        [
            (case, index)
            for rank in range(workers)
            for batch in [sampler.of_step(step, rank, workers)]
            for case, index in zip(batch.case, batch.slice_index.tolist(), strict=True)
        ]
        for step in range(steps)
    ]


@pytest.fixture
def slices(tiny, store):
    return training_slices(settings.with_settings(tiny, finetune={"slices": "all"}), store, store.splits.train)


def test_every_slice_comes_once_before_any_comes_twice(tiny, slices):
    n = len(slices)
    in_turn = settings.with_settings(tiny, finetune={"by_structure_fraction": 0.0})
    seen = [name for step in drawn(slices, in_turn, 3 * n, 1) for name in step]
    for turn in range(len(seen) // n):
        assert len(set(seen[turn * n : (turn + 1) * n])) == n
    assert set(Counter(seen).values()) == {12}  # 4 slices a step
    assert seen[:n] != seen[n : 2 * n]


def test_two_workers_draw_what_one_draws(tiny, slices):
    assert drawn(slices, tiny, 5, 2) == drawn(slices, tiny, 5, 1)


def test_a_step_is_a_function_of_the_seed_and_its_number(tiny, slices):
    sampler, again = SliceSampler(slices, tiny), SliceSampler(slices, tiny)
    sampler.of_step(3, 0, 1)  # what came before does not matter
    assert torch.equal(sampler.of_step(7, 0, 1).image_hu, again.of_step(7, 0, 1).image_hu)
    other = settings.from_dict({**tiny.model_dump(mode="json"), "seed": 1})
    assert drawn(slices, other, 3, 1) != drawn(slices, tiny, 3, 1)


def labelled(labels, contoured):
    """Slices of 2 x 2 pixels: four labels each, and the structures contoured in their patients."""
    n = len(labels)
    return SliceBatch(
        image_hu=torch.zeros(n, 2, 2, dtype=torch.int16),
        label=torch.tensor(labels, dtype=torch.uint8).view(n, 2, 2),
        contoured=torch.tensor(contoured),
        case=["a"] * n,
        patient=["a"] * n,
        slice_index=torch.arange(n, dtype=torch.int32),
        n_slices=torch.full((n,), n, dtype=torch.int32),
    )


def test_half_of_a_batch_is_drawn_by_structure(tiny):
    """One slice of a hundred holds structure 2, sixty hold structure 1, nothing holds structure 3."""
    rare = labelled([[0, 0, 0, 2]] + [[0, 0, 0, 1]] * 60 + [[0, 0, 0, 0]] * 39, [[True] * 4] * 100)
    config = settings.with_settings(tiny, finetune={"batch_size": 8})
    steps = [[index for _, index in step] for step in drawn(rare, config, 500, 1)]
    share = sum(step.count(0) for step in steps) / (500 * 8)
    assert share == pytest.approx(0.5 / 2 + 0.5 / 100, abs=0.03)  # a structure is half of the half
    empty = sum(index > 60 for step in steps for index in step) / (500 * 8)
    assert empty == pytest.approx(0.5 * 0.39, abs=0.02)  # only the other half holds slices without any structure
    for workers in (2, 4):  # each worker has its part of both halves
        sampler = SliceSampler(rare, config)
        size = 8 // workers
        for rank in range(workers):
            by_structure = [int((sampler.of_step(s, rank, workers).slice_index <= 60).sum()) for s in range(40)]
            assert min(by_structure) >= size // 2


def test_slices_without_any_structure_are_drawn_in_turn(tiny):
    assert len(drawn(labelled([[0] * 4] * 3, [[True, True]] * 3), tiny, 2, 1)[1]) == 4


def test_frequencies_are_those_of_the_labels_where_they_were_contoured():
    """Structure 2 was contoured in half of the slices, structure 3 has no voxel, structure 4 was contoured nowhere."""
    everywhere, somewhere = [True, True, True, True, False], [True, True, False, True, False]
    slices = labelled([[0, 0, 1, 2], [0, 0, 0, 2], [0, 0, 1, 1], [0, 0, 0, 0]], [everywhere] * 2 + [somewhere] * 2)
    expected = [3 / 16, 2 / 8, 1 / 16, 1 / 16]
    assert class_frequencies(slices).tolist() == pytest.approx([1 - sum(expected), *expected])


@pytest.mark.parametrize(("which", "share"), [("all", 0.2), ("labelled", 0.0), ("labelled", 0.2), ("labelled", 0.9)])
def test_slices_are_counted_without_being_read(tiny, store, monkeypatch, which, share):
    config = settings.with_settings(tiny, finetune={"slices": which, "empty_slice_fraction": share})
    expected = len(training_slices(config, store, store.splits.train))
    monkeypatch.setattr(type(store), "read_case", None)
    assert count_training_slices(config, store, store.splits.train) == expected
