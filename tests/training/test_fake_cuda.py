"""The forward pass of every method and of fine-tuning on a pretended GPU: no operation mixes devices or waits.

A tensor on the pretended GPU has a shape and a type but no values (torch's FakeTensorMode). So whatever asks for a
value, or for a length that the values decide, is refused, and so is an operation on tensors of both devices. Tensors
on the CPU are real. Backward passes and mixed precision need a real GPU: `make gpu`.
"""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pixelglobal.config.registry import METHODS
from pixelglobal.data.slices import SliceBatch
from pixelglobal.devices import send
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import ResUNet
from pixelglobal.seeds import generator
from pixelglobal.training.finetune import _Training
from pixelglobal.training.pretrain import views_of
from pixelglobal.training.runs import LocalRun
from pixelglobal.views.intensity import HuScale
from tests.methods.test_methods import built, of

CUDA, SCALE = torch.device("cuda"), HuScale(-1024, 325, -300, 400)


class PretendedGpu(TorchDispatchMode):
    """What would run on a GPU is run on shapes alone."""

    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode()

    def __enter__(self):
        self.fake.__enter__()  # while it is there, torch looks for no driver
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.fake.__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, tensors = operation.overloadpacket.__name__, [x for x in tree_leaves((args, kwargs)) if is_tensor(x)]
        if name == "_pin_memory":  # of the host: nothing happens to it here
            return args[0]
        on_gpu = any(isinstance(x, FakeTensor) for x in tensors)
        to_gpu = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda"
        if not on_gpu and not to_gpu:
            with unset_fake_temporarily():
                return operation(*args, **kwargs)
        real = [x for x in tensors if not isinstance(x, FakeTensor)]
        if any(x.ndim for x in real) and not (name == "_to_copy" and kwargs.get("non_blocking")):
            raise RuntimeError(f"{name} would read a tensor of the CPU on the GPU, or copy it there and wait")
        args, kwargs = tree_map(self.described, (args, kwargs))
        return operation(*args, **kwargs)

    def described(self, value):
        """The fake tensor of a real one, still on the CPU; anything else as it is."""
        return self.fake.from_tensor(value) if is_tensor(value) and not isinstance(value, FakeTensor) else value

    def sent(self, module):
        """A module whose weights and buffers are on the pretended GPU from now on."""
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    there = self.described(weight.detach()).to("cuda", non_blocking=True)
                    part._parameters[name] = torch.nn.Parameter(there, weight.requires_grad)
            for name, values in part._buffers.items():
                if values is not None:
                    part._buffers[name] = self.described(values).to("cuda", non_blocking=True)
        return module


def is_tensor(value):
    return isinstance(value, torch.Tensor)


def a_batch(n=8, side=48):
    contoured = torch.ones(n, 3, dtype=torch.bool)
    images, labels = torch.zeros(n, side, side, dtype=torch.int16), torch.zeros(n, side, side, dtype=torch.uint8)
    cases = [f"case_{i // 2}" for i in range(n)]
    return SliceBatch(images, labels, contoured, cases, cases, torch.arange(n).int(), torch.full((n,), 9).int())


@pytest.mark.parametrize(
    "mixing_or_waiting",
    [
        lambda gpu: gpu + torch.ones(3),
        lambda gpu: gpu[torch.tensor([0, 1])],
        lambda gpu: torch.ones(3).to("cuda"),
        lambda gpu: gpu.sum().item(),
        lambda gpu: gpu[gpu > 0],
        lambda gpu: gpu.nonzero(),
    ],
)
def test_what_mixes_devices_or_waits_is_refused(mixing_or_waiting):
    with PretendedGpu():
        values = torch.ones(3, device="cuda")
        assert (values * 2 + torch.tensor(1.0)).device.type == "cuda"
        with pytest.raises((RuntimeError, AssertionError)):
            mixing_or_waiting(values)


@pytest.mark.parametrize("name", list(METHODS))
def test_views_and_losses_of_every_method_stay_on_the_gpu(tiny, name):
    method = built(of(tiny, name))
    with PretendedGpu() as gpu:
        gpu.sent(method)
        for stage in range(method.stages):
            pair = views_of(a_batch(), method, stage, SCALE, CUDA, generator(0))
            assert {pair.view_1.device.type, pair.image_M.device.type, pair.volume_B.device.type} == {"cuda"}
            terms = method.losses(pair, generator(1))
            assert {term.device.type for term in terms.values()} == {"cuda"}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_fine_tuning_stays_on_the_gpu(tiny, tmp_path, weighted):
    batch = a_batch(side=64)
    if weighted:  # as labels that a model gave
        batch = replace(batch, certainty=torch.full_like(batch.label, 200))
    model = Segmenter(ResUNet(tiny.network), 3)
    with PretendedGpu() as gpu:
        swap = send(torch.tensor([0, 2, 1]), CUDA)
        training = _Training(tiny, LocalRun(tmp_path), None, 1, gpu.sent(model), None, None, SCALE, swap)
        assert training.loss(0, batch.to(CUDA)).device.type == "cuda"
