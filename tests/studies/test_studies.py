"""All studies together, several cohorts in one, and a study as a job on a cluster of its own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from experiments import FOLDER
from pixelglobal.environment import source_hash
from tests.support import ROOT, TINY, experiments


@pytest.mark.cluster
def test_all_studies_run_end_to_end_and_share_what_they_can(store, tmp_path):
    out = tmp_path / "out"
    words = ["all", "--store", store.root, "--out", out, "--preset", "smoke", "--seeds", "0", "--fractions", "0.5,1"]
    words += [*TINY, "pretrain.epochs=1", "finetune.epochs=1", "cluster.threads_per_worker=1"]
    answer = experiments("run", *words, timeout=900)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for name in ("comparison", "ablation", "semi_supervised", "low_data", "passes", "stabilizers"):
        assert (out / name / "report.html").is_file()
    # go, gp, gpc, full; full on the training patients; 5, 10, 20 passes (2 are full's); printed and detached, twice.
    assert len(list(out.glob("stages/pretrain-*/done.json"))) == 12
    # Each of these, random initialisation normalised in two ways, and both random and full on one patient.
    assert len(list(out.glob("stages/finetune-*/done.json"))) == 16
    assert len(list(out.glob("tune/*/*-seed0"))) == 12 + 16
    tables = [path.read_text() for path in (out / "low_data/tables").glob("table_*.csv")]
    [curve] = [table for table in tables if table.startswith("method,metric,1 patient,2 patients")]
    assert "full gains" in curve


@pytest.mark.cluster
def test_several_cohorts_have_a_table_each(phantom_folder, tiny, store, tmp_path):
    from pixelglobal.data.prepare import prepare

    again = prepare(phantom_folder, tmp_path / "second", tiny.prepare).store
    other_split = tiny.prepare.model_copy(update={"split_seed": 1})
    third = prepare(phantom_folder, tmp_path / "third", other_split).store
    assert set(third.splits.test) != set(store.splits.test)
    stores = [word for one in (store, again, third) for word in ("--store", one.root)]
    words = ["comparison", *stores, "--out", tmp_path / "out", "--preset", "smoke"]
    words += ["--seeds", "0", "--methods", "random", *TINY, "finetune.epochs=1"]
    answer = experiments("run", *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    # Of each cohort 4 metrics, slices, contrasts and calibration; and the cohorts side by side.
    assert len(list((tmp_path / "out/comparison/tables").glob("table_*.md"))) == 3 * 7 + 1
    cohorts = {"Phantom store", "Phantom second", "Phantom third"}
    assert set(pd.read_parquet(tmp_path / "out/comparison/rows.parquet")["cohort"]) == cohorts
    assert len(list((tmp_path / "out").glob("stages/finetune-*"))) == 2  # of the same scans and split: one for both
    page = (tmp_path / "out/comparison/report.html").read_text()
    assert '"comparison-random-phantom_third-seed0"' in page  # which its row opens
    assert "No leakage" in page
    trained_on_elsewhere = set(third.splits.test) & {*store.splits.train, *store.splits.validation}
    assert page.count("(tested in Phantom third, trained on in Phantom store)") >= len(trained_on_elsewhere) > 0


@pytest.mark.cluster
def test_ray_job_submit_runs_a_study_on_a_cluster_of_its_own(store, tmp_path):
    """`ray start --head` on loopback with its own ports, folder and token; nothing of another Ray is touched."""
    import socket

    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    gcs, dashboard, agent = free_port(), free_port(), free_port()
    ray = [str(Path(sys.executable).with_name("ray"))]
    home = Path("/tmp") / f"rj{os.getpid()}"  # Ray's socket paths must be short
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a-token-of-this-test-alone-0123456789abcdef",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(*words, timeout=240):
        return subprocess.run(
            [*ray, *map(str, words)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    start = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--num-cpus=2"]
    start += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={home}"]
    start += ["--disable-usage-stats", "--object-store-memory=200000000"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    head = subprocess.Popen([*ray, *start], env=environment, start_new_session=True, **quiet)
    try:
        deadline = time.time() + 120
        while run("job", "list").returncode != 0:
            assert time.time() < deadline, "the job server did not come up"
            time.sleep(2)
        submit = ["job", "submit", "--submission-id", "study", "--working-dir", ".", "--", sys.executable]
        submit += ["-m", "experiments", "run"]
        submit += ["comparison", "--store", store.root, "--out", tmp_path / "out", "--preset", "smoke"]
        submit += ["--seeds", "0", "--methods", "full", *TINY, "pretrain.epochs=1", "finetune.epochs=1"]
        answer = run(*submit)
        while "No available agent" in answer.stderr and time.time() < deadline:  # it comes up after the job server
            time.sleep(3)
            answer = run(*submit)
        assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-2000:]
        assert "SUCCEEDED" in run("job", "status", "study").stdout.upper()
        rows = pd.read_parquet(tmp_path / "out/comparison/rows.parquet")
        assert set(rows["method"]) == {"full"}
        runs = pd.read_parquet(tmp_path / "out/runs.parquet")
        assert set(runs["commit"]) == {f"source-{source_hash([FOLDER])}"}  # Ray leaves .git at home
    finally:
        os.killpg(head.pid, 15)
        try:
            head.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, 9)
        shutil.rmtree(home, ignore_errors=True)
