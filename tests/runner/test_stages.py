"""The stage graph: addresses change with what changes results, and only with that; a folder is done, torn or taken."""

import json
import multiprocessing
import os
import re
import resource
import threading
import time

import pytest

from experiments.runner.pipeline import pipeline_of
from experiments.runner.plan import make_plan, workload
from experiments.runner.stages import check_writable, pretrain_stage, working_on
from experiments.studies import STUDIES
from pixelglobal import config as settings
from pixelglobal.cluster.train import run_pretrain
from pixelglobal.data.store import Store


def pipeline(config, store, out, method="full", seed=0):
    [run] = STUDIES["comparison"].runs(config, [store], seeds=[seed], methods=[method])
    return pipeline_of(run, out)


def addresses(config, store, out, **kw):
    return [stage.name for stage in pipeline(config, store, out, **kw).stages]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"pretrain": {"epochs": 7}}, [True, True, True]),
        ({"views": {"gamma_max": 1.4}}, [True, True, True]),
        ({"finetune": {"epochs": 7}}, [False, True, True]),
        ({"evaluate": {"surface_tolerance_mm": 1.0}}, [False, False, True]),
        ({"evaluate": {"largest_component": True}}, [False, False, True]),
        ({"pretrain": {"log_every_steps": 3, "checkpoints_to_keep": 5}}, [False, False, False]),
        ({"evaluate": {"batch_size": 3}}, [False, False, False]),
        ({"cluster": {"cpus_per_worker": 2, "max_failures": 9}}, [False, False, False]),
    ],
)
def test_an_address_changes_with_results_and_only_with_results(tiny, store, tmp_path, change, changed):
    before = addresses(tiny, store, tmp_path)
    after = addresses(settings.with_settings(tiny, **change), store, tmp_path)
    assert [a != b for a, b in zip(before, after, strict=True)] == changed


def test_seeds_and_methods_have_their_own_stages_and_random_has_no_pretraining(tiny, store, tmp_path):
    assert len({addresses(tiny, store, tmp_path, seed=s)[0] for s in (0, 1, 2)}) == 3
    assert len({addresses(tiny, store, tmp_path, method=m)[0] for m in ("go", "gp", "gpc", "full")}) == 4
    assert len(addresses(tiny, store, tmp_path, method="random")) == 2


def test_random_weights_move_with_the_scans_that_normalise_and_not_with_views(tiny, store, tmp_path):
    """Their intensities are scaled by the pre-training cases, and `views.*` is of pre-training alone."""
    before = addresses(tiny, store, tmp_path, method="random")
    views = settings.with_settings(tiny, views={"gamma_max": 1.4})
    assert addresses(views, store, tmp_path, method="random") == before
    fewer = settings.with_settings(tiny, pretrain={"cases": "train"})
    assert addresses(fewer, store, tmp_path, method="random")[0] != before[0]


def test_an_address_follows_the_content_of_the_data(tiny, store, tmp_path):
    import shutil

    from pixelglobal.data.store import Store

    copy = Store.open(shutil.copytree(store.root, tmp_path / "elsewhere"))
    assert addresses(tiny, copy, tmp_path) == addresses(tiny, store, tmp_path)
    path = copy.root / "cases.csv"
    path.write_text(path.read_text().replace(copy.cases["sha256"][0], "0" * 64))
    (copy.root / "SHA256SUMS").unlink()
    assert addresses(tiny, Store.open(copy.root), tmp_path) != addresses(tiny, store, tmp_path)


def test_a_stage_runs_once(tiny, store, tmp_path):
    stage = pretrain_stage(tmp_path, tiny, store)
    assert not stage.is_complete
    with working_on(stage) as needed:
        assert needed
    assert stage.is_complete
    assert stage.seconds >= 0
    with working_on(stage) as needed:
        assert not needed
    assert json.loads((stage.folder / "stage.json").read_text()) == json.loads(json.dumps(stage.facts))
    assert not (stage.folder / "lock.json").exists()


def test_a_failed_stage_says_why_and_can_be_tried_again(tiny, store, tmp_path):
    stage = pretrain_stage(tmp_path, tiny, store)
    with pytest.raises(RuntimeError), working_on(stage):
        raise RuntimeError("the disk is full")
    assert not stage.is_complete
    assert "the disk is full" in (stage.folder / "error.txt").read_text()
    with working_on(stage) as needed:
        assert needed
    assert stage.is_complete
    assert not (stage.folder / "error.txt").exists()


def test_two_workers_never_do_the_same_stage_at_once(tiny, store, tmp_path):
    stage, did = pretrain_stage(tmp_path, tiny, store), []

    def work():
        with working_on(stage) as needed:
            if needed:
                did.append(threading.get_ident())
                time.sleep(0.3)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(did) == 1


def test_the_lock_of_a_dead_process_is_taken_over(tiny, store, tmp_path):
    stage = pretrain_stage(tmp_path, tiny, store)
    stage.folder.mkdir(parents=True)
    dead = multiprocessing.get_context("spawn").Process(target=os.getpid)
    dead.start()
    dead.join()
    import socket

    (stage.folder / "lock.json").write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
    with working_on(stage) as needed:
        assert needed
    assert stage.is_complete


def test_a_torn_mark_is_named_and_other_stages_are_untouched(tiny, store, tmp_path):
    stage = pretrain_stage(tmp_path, tiny, store)
    with working_on(stage):
        pass
    (stage.folder / "done.json").write_text("{")
    with pytest.raises(ValueError, match=r"done\.json cannot be read; delete the folder .* only this stage"):
        _ = stage.is_complete


def test_the_same_work_is_known_by_what_it_does(tiny, store, tmp_path):
    def works(method, seed=0, **finetune):
        config = settings.with_settings(tiny, finetune=finetune)
        return [workload(stage) for stage in pipeline(config, store, tmp_path, method, seed).stages]

    assert works("full") == works("full", seed=1)
    assert works("full")[1:] == works("random")  # where the weights come from costs nothing
    assert works("full")[0] != works("gp")[0]
    assert works("full")[1] == works("full", patients=1)[1]  # steps are counted
    whole = {"steps_per_epoch": None}
    assert works("full", **whole)[1] != works("full", **whole, patients=1)[1]
    assert make_plan([pipeline(tiny, store, tmp_path)], tmp_path, calibrate=False).seconds.keys() == {
        stage.name for stage in pipeline(tiny, store, tmp_path).stages
    }


def _pretrain_on_a_small_disk(values, root, out, limit_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))  # every longer file fails to be written
    store = Store.open(root)
    stage = pipeline(settings.from_dict(values), store, out).pretrain
    with working_on(stage):
        run_pretrain(settings.from_dict(values), store.root, stage.folder)


def test_a_full_disk_is_named_and_the_stage_can_go_on(tiny, store, tmp_path):
    context = multiprocessing.get_context("spawn")
    words = (tiny.model_dump(mode="json"), store.root, tmp_path, 1_000_000)
    process = context.Process(target=_pretrain_on_a_small_disk, args=words)
    process.start()
    process.join()
    assert process.exitcode == 1
    stage = pipeline(tiny, store, tmp_path).pretrain
    error = (stage.folder / "error.txt").read_text()
    assert re.search(r"WriteError: cannot write .*Free space on the disk, or give a folder", error)
    assert not stage.is_complete
    assert not list(stage.folder.rglob(".partial-*"))
    assert not stage.is_running
    with working_on(stage):
        run_pretrain(tiny, store.root, stage.folder)
    assert stage.is_complete


def test_a_folder_that_cannot_be_made_is_named(tiny, store, tmp_path):
    (tmp_path / "stages").write_text("a file in the way")
    stage = pipeline(tiny, store, tmp_path).pretrain
    message = r"cannot write to .*stages.*: give an --out folder that can be written to"
    with pytest.raises(ValueError, match=message), working_on(stage):
        pass


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    out = tmp_path / "locked"
    out.mkdir(mode=0o555)
    somebody = 65534 if os.geteuid() == 0 else os.geteuid()  # root may write everywhere
    before = os.geteuid()
    os.seteuid(somebody)
    try:
        with pytest.raises(ValueError, match=r"cannot write to .*locked .*Permission denied.*: give an --out folder"):
            check_writable(out)
    finally:
        os.seteuid(before)
    check_writable(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_a_stage_that_lost_a_result_is_not_complete(tiny, store, tmp_path):
    stage = pipeline(tiny, store, tmp_path).evaluate
    with working_on(stage):
        (stage.folder / "rows.parquet").write_bytes(b"1234")
    assert stage.is_complete
    (stage.folder / "rows.parquet").write_bytes(b"12")
    assert not stage.is_complete
    (stage.folder / "rows.parquet").unlink()
    assert not stage.is_complete
    with working_on(stage) as needed:
        assert needed
