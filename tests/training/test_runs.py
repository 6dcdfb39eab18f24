"""A run in this process: states are kept by the clock, the newest few stay, and metrics survive a kill."""

import json
import shutil
import subprocess
import time

import pytest
import torch
from torch import nn

from pixelglobal.files import WriteError
from pixelglobal.training.checkpoints import save_training_state
from pixelglobal.training.runs import LocalRun, append_metrics, read_metrics, state_folder


def keep(run, step):
    """What rank 0 does, with a state of one number."""
    net = nn.Linear(1, 1)
    save_training_state(state_folder(run, step), {"net": net}, torch.optim.SGD(net.parameters()), {"step": step})
    run.kept({"step": step})


def names(run):
    return sorted(path.name for path in (run.folder / "checkpoints").iterdir())


def test_the_newest_states_are_kept_and_the_last_is_found(tmp_path):
    run = LocalRun(tmp_path / "run", checkpoints_to_keep=2)
    assert run.latest_checkpoint() is None
    for step in (1, 5, 30, 200):
        keep(run, step)
    assert names(run) == ["step_00000030", "step_00000200"]
    assert run.latest_checkpoint().name == "step_00000200"


def test_what_a_killed_process_left_is_no_state_and_goes_with_the_next(tmp_path):
    run = LocalRun(tmp_path / "run")
    keep(run, 1)
    left = tmp_path / "run/checkpoints/.partial-0123abcd-step_00000002"
    left.mkdir()
    (left / "state.json").write_text("ha")
    assert run.latest_checkpoint().name == "step_00000001"
    keep(run, 2)
    assert names(run) == ["step_00000001", "step_00000002"]


def test_a_state_is_due_when_its_minutes_have_passed(tmp_path):
    run = LocalRun(tmp_path, checkpoint_minutes=0.2 / 60)
    assert not run.checkpoint_is_due()
    time.sleep(0.25)
    assert run.checkpoint_is_due()
    keep(run, 1)
    assert not run.checkpoint_is_due()


def test_digests_are_those_of_sha256sum(tmp_path):
    run = LocalRun(tmp_path)
    keep(run, 1)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=run.latest_checkpoint(), check=True)


@pytest.mark.parametrize("harm", ["no digests", "a file is gone", "digests of nothing"])
def test_no_state_is_used_whose_files_cannot_be_checked(tmp_path, harm):
    run = LocalRun(tmp_path)
    keep(run, 1)
    digests = run.latest_checkpoint() / "SHA256SUMS"
    if harm == "digests of nothing":
        digests.write_text("")
    else:
        (digests if harm == "no digests" else digests.with_name("state.json")).unlink()
    with pytest.warns(UserWarning, match=r"the checkpoint .*step_00000001 is damaged \(.*(SHA256SUMS|state\.json)"):
        assert run.latest_checkpoint() is None


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, where one may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_leaves_the_state_before(small_disk):
    run = LocalRun(small_disk / "run")
    keep(run, 1)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(2_000_000))
    with pytest.raises(WriteError, match=r"cannot write .*step_00000002.*What was there before is intact"):
        keep(run, 2)
    assert names(run) == ["step_00000001"]
    assert run.latest_checkpoint().name == "step_00000001"
    filler.unlink()
    keep(run, 2)
    assert run.latest_checkpoint().name == "step_00000002"


def test_metrics_skip_a_torn_line_and_keep_the_newest_of_a_step(tmp_path):
    for step, loss in ((1, 3.0), (2, 2.0), (2, 1.0)):
        append_metrics(tmp_path, {"stage": "pretrain", "step": step, "loss": loss})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "pretrain", "step": 3})[:-4])
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 3.0), (2, 1.0)]
    assert read_metrics(tmp_path / "nowhere") == []
