"""The bench of steps: its shares of peak follow from FLOPs and seconds, and a GPU that is not there is refused."""

import pytest
import torch

from experiments.bench import step
from experiments.bench.step import Size, bench_step


def test_a_step_is_held_against_what_the_device_can_do(monkeypatch):
    monkeypatch.setattr(step, "VARIANTS", ("gp", "full", "naive"))
    findings = bench_step(Size("test_resnet", 64, 2, 2), rounds=1, device_type="cpu")
    assert findings.facts["device"] == "cpu"
    peaks = [row["GFLOPs"] / row["seconds"] / row["of peak"] for row in findings.rows]
    assert peaks == pytest.approx([peaks[0]] * 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"--device cuda, but PyTorch .* finds no CUDA device"):
        bench_step(Size(), device_type="cuda")
