"""A pre-training step starts its work on the GPU and never stops until the GPU has caught up."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pixelglobal.config.registry import METHODS
from pixelglobal.seeds import generator
from pixelglobal.training.optim import pretraining_optimizer
from tests.methods.test_methods import a_pair, built, of


class Waits(TorchDispatchMode):
    """Notes the operations that would stop a step on a GPU until it has caught up."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "unique", "linalg_inv", "bincount")

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or any(name.startswith(word) for word in self.NAMES):
            self.seen.add(f"{name} {''.join(traceback.format_stack(limit=12))}")
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.new_tensor(1.0),
    ],
)
def test_what_waits_is_noticed(waiting):
    with Waits() as waits:
        waiting(torch.ones(3))
    assert waits.seen


@pytest.mark.parametrize("name", list(METHODS))
def test_no_step_waits_for_the_device(tiny, name):
    """What a GPU must finish first is refused by its kind of operation; tests/test_gpu.py asks the GPU itself."""
    method = built(of(tiny, name))
    optimizer = pretraining_optimizer(method.trainable(), tiny.pretrain)
    for stage in range(method.stages):
        pair = a_pair(method, stage)
        with Waits() as waits:
            terms = method.losses(pair, generator(1))
            method.before_backward(terms, step=0)
            terms["loss"].backward()
            torch.nn.utils.clip_grad_norm_(method.trainable().parameters(), 3.0)
            method.after_step(stage, 10)
        assert not waits.seen, "\n".join(waits.seen)
        optimizer.step()
