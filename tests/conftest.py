"""What several test files share: a small prepared phantom cohort, made once, and the place of real CT.

Every call of an annotated function of the library is checked against the shapes and types of its signature while tests
run. The check is switched on here, before the modules are imported; without it the annotations cost nothing.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from jaxtyping import install_import_hook

CHECKED = [f"pixelglobal.{package}" for package in ("views", "losses", "networks", "statistics")]
# An int is welcome where a float is asked for, as everywhere in Python's typing.
install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

from pixelglobal import config as settings
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare
from tests.support import TINY

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Files whose tests start Ray come first: with two processes (`pytest -n 2 --dist loadfile`) they take longest."""
    items.sort(key=lambda item: item.get_closest_marker("cluster") is None)


@pytest.fixture
def figures_closed():
    """Closes what a test draws, so that another test can tell whether code left a figure open."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def tiny():
    """A config in which a whole study takes seconds."""
    return settings.resolve("smoke", TINY)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    """A cohort of 6 labelled and 2 unlabelled scans of 32 x 32 x 8."""
    return make_phantom_cohort(tmp_path_factory.mktemp("phantom"), n_patients=6, n_unlabelled=2, size=32, n_slices=8)


@pytest.fixture(scope="session")
def store(phantom_folder, tiny, tmp_path_factory):
    """That cohort, prepared."""
    return prepare(phantom_folder, tmp_path_factory.mktemp("stores") / "store", tiny.prepare).store


@pytest.fixture(scope="session")
def ray_on_two_cpus():
    """A Ray of all tests that ask for one, with two CPUs, that runs the code of this checkout."""
    import ray

    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root / "ssl"), str(root)])
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 starves its workers on a busy machine
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200_000_000,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def real_data():
    """A folder of real CT in MSD layout; tests that ask for it are skipped where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "openkbp_hn"
    folder = Path(os.environ.get("PIXELGLOBAL_REAL_DATA", beside))
    if not (folder / "dataset.json").is_file():
        pytest.skip(f"no real CT at {folder}; set PIXELGLOBAL_REAL_DATA to a folder in MSD layout")
    return folder


@pytest.fixture(scope="session")
def finished_study(store, tiny, tmp_path_factory):
    """A comparison of random and full with 3 seeds, done in this process: the OUT folder and the command's words."""
    from experiments.runner.execution import finetune_and_evaluate_once, pretrain_once
    from experiments.selection import Request, select

    out = tmp_path_factory.mktemp("finished") / "out"
    short = [*TINY, "pretrain.epochs=1", "finetune.epochs=1"]
    request = Request("comparison", short, [store.root], out, "smoke", seeds="0,1,2")
    for pipeline in select(request).all_pipelines:
        pretrain_once(pipeline)
        finetune_and_evaluate_once(pipeline, out)
    return request


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium for all tests that look at pages."""
    from tests.browser import Browser

    running = Browser(tmp_path_factory.mktemp("chromium"))
    yield running
    running.close()
