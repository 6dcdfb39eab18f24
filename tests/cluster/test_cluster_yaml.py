"""cluster.yaml passes Ray's own schema, and keeps the promises its comments make."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_accepts_it(cluster):
    prepared = prepare_config(cluster)
    validate_config(prepared)  # raises for what it does not know
    assert set(prepared["available_node_types"]) == {"head", "gpu", "data"}


def test_ray_would_refuse_a_misspelt_key(cluster):
    cluster["max_wokers"] = 3
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config(cluster))


def test_workers_are_spot_and_the_head_trains_nothing(cluster):
    types = cluster["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    for name in ("gpu", "data"):
        assert types[name]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert types[name]["min_workers"] == 0


def test_nothing_listens_to_the_world(cluster):
    text = (ROOT / "cluster.yaml").read_text()
    assert "0.0.0.0" not in text
    assert all("RAY_AUTH_MODE=token" in c for c in cluster["head_start_ray_commands"][1:])
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][1]


def test_only_code_travels_to_the_cluster(cluster):
    """`ray up` copies and hashes what is mounted: not the checkout, in which stores, results and scans may lie."""
    sources = sorted(source for path, source in cluster["file_mounts"].items() if "pixelglobal" in path)
    assert sources == ["README.md", "constraints.txt", "pyproject.toml", "ssl"]
    assert {"*.nii.gz", "*.dcm"} <= set(cluster["rsync_exclude"])


def test_disks_and_the_shared_file_system_are_encrypted(cluster):
    for kind in cluster["available_node_types"].values():
        assert all(disk["Ebs"]["Encrypted"] for disk in kind["node_config"]["BlockDeviceMappings"])
        assert kind["node_config"]["ImageId"].startswith("ami-")
    commands = " ".join(cluster["initialization_commands"])
    assert "-t efs -o tls" in commands
    assert "chown 1000:1000 /shared" in commands


def test_the_image_has_the_tested_ray_and_python(cluster):
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and ";" not in line
    )
    assert f"ray:{pins['ray']}-py311" in cluster["docker"]["image"]
