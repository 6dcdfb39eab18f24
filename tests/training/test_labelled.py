"""The labelled slices of each step: every slice equally often, and the same whatever the number of workers."""

from collections import Counter

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.training.labelled import slices_of_step, training_slices


def drawn(slices, config, steps, workers):
    """(case, slice) of every step, the workers' shares one after the other."""
    return [
        [
            (case, index)
            for rank in range(workers)
            for batch in [slices_of_step(slices, config, step, rank, workers)]
            for case, index in zip(batch.case, batch.slice_index.tolist(), strict=True)
        ]
        for step in range(steps)
    ]


@pytest.fixture
def slices(tiny, store):
    return training_slices(settings.with_settings(tiny, finetune={"slices": "all"}), store, store.splits.train)


def test_every_slice_comes_once_before_any_comes_twice(tiny, slices):
    n = len(slices)
    seen = [name for step in drawn(slices, tiny, 3 * n, 1) for name in step]
    for turn in range(len(seen) // n):
        assert len(set(seen[turn * n : (turn + 1) * n])) == n
    assert set(Counter(seen).values()) == {12}  # 4 slices a step
    assert seen[:n] != seen[n : 2 * n]


def test_two_workers_draw_what_one_draws(tiny, slices):
    assert drawn(slices, tiny, 5, 2) == drawn(slices, tiny, 5, 1)


def test_a_step_is_a_function_of_the_seed_and_its_number(tiny, slices):
    again = slices_of_step(slices, tiny, 7, 0, 1)
    assert torch.equal(again.image_hu, slices_of_step(slices, tiny, 7, 0, 1).image_hu)
    other = settings.from_dict({**tiny.model_dump(mode="json"), "seed": 1})
    assert drawn(slices, other, 3, 1) != drawn(slices, tiny, 3, 1)
