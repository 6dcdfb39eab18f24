"""Ray's start and what a cluster has: how much fits, what an autoscaler may add, and where workers find the code."""

import os

import pytest
import ray._private.state

from experiments import FOLDER
from pixelglobal import config as settings
from pixelglobal.cluster import resources
from pixelglobal.cluster.resources import trials_at_once, what_can_be_had, worker_variables
from tests.support import ROOT

JOINED = {"RAY_ADDRESS": "10.0.0.1:6379"}


def paths(environ, packages=()):
    return worker_variables(environ, packages)["PYTHONPATH"].split(os.pathsep)


@pytest.mark.parametrize(
    ("cluster", "workers", "available", "expected"),
    [
        ({}, 0, {"CPU": 2.0}, 2),
        ({}, 1, {"CPU": 2.0}, 1),  # one CPU stays free for Ray Data
        ({}, 4, {"CPU": 33.0}, 8),
        ({"cpus_per_worker": 4, "gpus_per_worker": 1}, 4, {"CPU": 800.0, "GPU": 64.0}, 16),
        ({"gpus_per_worker": 0.5}, 0, {"CPU": 16.0, "GPU": 2.0}, 4),
    ],
)
def test_as_many_trials_as_fit(tiny, cluster, workers, available, expected):
    assert trials_at_once(settings.with_settings(tiny, cluster=cluster), workers, available) == expected


def test_what_can_never_fit_is_refused_with_the_numbers(tiny):
    with pytest.raises(
        ValueError, match=r"needs 4 x 1 CPUs .*1 CPUs must stay free.*the cluster has 2 CPUs and 0 GPUs"
    ):
        trials_at_once(tiny, 4, {"CPU": 2.0})


def test_an_autoscaler_s_promise_counts_as_available():
    now, grown = {"CPU": 2.0, "node:head": 1.0}, {"CPU": 64.0, "GPU": 8.0}
    assert what_can_be_had(now, grown) == {"CPU": 64.0, "GPU": 8.0, "node:head": 1.0}
    assert what_can_be_had({"CPU": 16.0}, {"CPU": 8.0}) == {"CPU": 16.0}
    assert what_can_be_had(now, None) == now


def test_a_machine_with_gpus_is_used_unless_told_otherwise(tiny):
    machine = {"CPU": 16.0, "GPU": 2.0}
    assert trials_at_once(tiny, 0, machine) == 2
    assert trials_at_once(settings.with_settings(tiny, cluster={"gpus_per_worker": 0}), 0, machine) == 16


def test_a_ray_that_has_moved_its_private_state_is_warned_of(monkeypatch):
    monkeypatch.setattr(ray._private.state, "state", object())
    with pytest.warns(UserWarning, match=r"does not say what its autoscaler may start.*min_workers in cluster\.yaml"):
        assert resources._most_of_the_autoscaler() is None


def test_workers_find_the_code_where_the_driver_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths({}) == [str(ROOT / "ssl")]
    assert paths({}, [FOLDER]) == [str(ROOT / "ssl"), str(ROOT)]
    beside = tmp_path / "method" / "package"
    assert paths({}, [beside, beside]) == [str(ROOT / "ssl"), str(beside.parent)]
    assert paths(JOINED, [FOLDER]) == paths({}, [FOLDER])  # this process is not in the job's working directory


def test_workers_of_a_job_find_the_code_in_their_copy_of_its_working_directory(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert paths(JOINED, [FOLDER]) == ["ssl", ".", str(ROOT / "ssl"), str(ROOT)]
    job = {"RAY_ADDRESS": "auto", "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"env_vars": {"PYTHONPATH": "x"}}}'}
    assert worker_variables(job, [FOLDER]) == {}


def test_what_is_installed_is_looked_for_where_the_workers_have_it_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "LIBRARY", tmp_path / "site-packages" / "pixelglobal")
    monkeypatch.setattr(resources.sysconfig, "get_path", lambda name: str(tmp_path / "site-packages"))
    assert worker_variables({}) == {}
    assert paths({}, [FOLDER]) == [str(ROOT)]


def test_ray_is_given_more_time_on_a_busy_machine_and_other_errors_are_raised(monkeypatch):
    said = iter([Exception("The current node timed out during startup."), None, ConnectionError("no such address")])
    tries = []

    def init(**options):
        tries.append(options)
        if (error := next(said)) is not None:
            raise error

    monkeypatch.setattr(resources.ray, "init", init)
    resources._init_patiently(address="local")
    assert tries == [{"address": "local"}] * 2
    with pytest.raises(ConnectionError):
        resources._init_patiently(address="local")
