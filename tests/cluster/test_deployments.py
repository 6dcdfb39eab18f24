"""Clusters other than AWS: the files of docs/how-to/cluster are well-formed, pinned, and keep their promises."""

import subprocess

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pixelglobal.version import __version__
from tests.support import ROOT

FOLDER = ROOT / "docs" / "how-to" / "cluster"


@pytest.fixture(scope="module")
def ray_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.removeprefix("ray==") for line in lines if line.startswith("ray=="))


def test_ray_accepts_machines_of_your_own():
    cluster = yaml.safe_load((FOLDER / "on-premises.yaml").read_text())
    validate_config(prepare_config(cluster))
    sources = {source for source in cluster["file_mounts"].values() if not source.startswith("~")}
    assert sources == {"ssl", "pyproject.toml", "constraints.txt", "README.md"}
    starts = [c for name in ("head", "worker") for c in cluster[f"{name}_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)


def test_the_slurm_script_is_a_script_and_its_token_is_private():
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    private, written = (
        next(i for i, line in enumerate(lines) if word in line) for word in ("umask 077", '> "$RAY_AUTH')
    )
    assert private < written
    assert any('rm -f "$RAY_AUTH_TOKEN_PATH"' in line for line in lines)


def test_kubernetes_has_the_tested_ray_and_asks_for_a_token(ray_version):
    spec = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())["spec"]
    assert spec["rayVersion"] == ray_version
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    assert all(container["image"].endswith(f":{__version__}") for container in containers)
    assert all({"mountPath": "/shared", "name": "shared"} in container["volumeMounts"] for container in containers)
    gpus = [container["resources"]["limits"].get("nvidia.com/gpu") for container in containers]
    assert gpus == [None, "1", None]


def test_the_container_is_the_tested_environment(ray_version):
    text = (FOLDER / "Containerfile").read_text()
    assert f"rayproject/ray:{ray_version}-py311" in text
    assert "-c /home/ray/pixelglobal/constraints.txt" in text
