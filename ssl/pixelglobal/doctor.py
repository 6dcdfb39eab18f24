"""What this machine has: versions, devices, memory, disk, and combinations that are known not to work."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import psutil
import torch

from pixelglobal.environment import source_hash, version

DISTRIBUTIONS = ("torch", "torchvision", "timm", "ray", "numpy", "scipy", "pandas", "pyarrow", "nibabel", "pydantic")
TESTED_PAIR = {"torch": "2.14.1", "torchvision": "0.29.1"}
GIB = 1024**3


def facts(folder: Path, packages: Sequence[Path] = ()) -> dict[str, str]:
    """Versions, devices, free memory and free disk at `folder`, as printed.

    packages: folders of Python packages that `source`, the hash of the code, covers beside this library.
    """
    lines = {"python": platform.python_version(), "system": platform.platform()}
    lines["source"] = source_hash(packages)
    lines |= {name: version(name) or "missing" for name in DISTRIBUTIONS}
    memory = psutil.virtual_memory()
    lines["cpus"] = str(psutil.cpu_count())
    lines["memory"] = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    disk = shutil.disk_usage(folder)
    lines["disk"] = f"{disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free at {folder.resolve()}"
    if not torch.cuda.is_available():
        lines["cuda"] = "no device; everything runs on the CPU"
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        lines[f"cuda:{i}"] = f"{torch.cuda.get_device_name(i)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    return lines


def problems() -> list[str]:
    """What is known not to work here, each with what to do; empty if all is well."""
    detected = []
    spec = util.find_spec("ssl")
    if spec is None or spec.origin is None or "pixelglobal" in spec.origin or Path(spec.origin).name == "__init__.py":
        detected.append("a package named `ssl` hides Python's own: delete ssl/__init__.py from the checkout")
    detected += [f"{name} is not installed: run `make install`" for name in DISTRIBUTIONS if version(name) is None]
    torch_version, vision = version("torch"), version("torchvision")
    if torch_version and vision and not _belong_together(torch_version, vision):
        detected.append(
            f"torch {torch_version} and torchvision {vision} are not built for each other; tested are "
            f"{TESTED_PAIR['torch']} and {TESTED_PAIR['torchvision']}: pip install -c constraints.txt torch torchvision"
        )
    try:
        import torchvision.ops  # noqa: F401 - loads the compiled operators, which fail on a wrong pair
    except Exception as error:
        detected.append(f"torchvision cannot be loaded ({error}); install the tested pair from constraints.txt")
    if psutil.virtual_memory().available < 2 * GIB:
        detected.append("less than 2 GiB of memory is free: lower batch sizes or close other programs")
    return detected


def _belong_together(torch_version: str, vision: str) -> bool:
    """torchvision 0.N belongs to torch 2.(N - 15), from torch 2.0 with 0.15 on."""
    major, minor = (int(part) for part in torch_version.split("+")[0].split(".")[:2])
    return major != 2 or int(vision.split(".")[1]) == minor + 15
