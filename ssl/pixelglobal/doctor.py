"""What this machine has: versions, devices, memory, disk, and combinations that are known not to work."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata, util
from pathlib import Path

import psutil
import torch

from pixelglobal.environment import source_hash

PACKAGES = ("torch", "torchvision", "timm", "ray", "numpy", "scipy", "pandas", "pyarrow", "nibabel", "pydantic")
TESTED_PAIR = {"torch": "2.14.1", "torchvision": "0.29.1"}
GIB = 1024**3


def facts(folder: Path) -> dict[str, str]:
    """Versions, devices, free memory and free disk at `folder`, as printed."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    found["source"] = source_hash()
    found |= {name: version(name) or "missing" for name in PACKAGES}
    memory = psutil.virtual_memory()
    found["cpus"] = str(psutil.cpu_count())
    found["memory"] = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    disk = shutil.disk_usage(folder)
    found["disk"] = f"{disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free at {folder.resolve()}"
    if not torch.cuda.is_available():
        found["cuda"] = "no device; everything runs on the CPU"
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found[f"cuda:{i}"] = f"{torch.cuda.get_device_name(i)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    return found


def problems() -> list[str]:
    """What is known not to work here, each with what to do; empty if all is well."""
    found = []
    spec = util.find_spec("ssl")
    if spec is None or spec.origin is None or "pixelglobal" in spec.origin or Path(spec.origin).name == "__init__.py":
        found.append("a package named `ssl` hides Python's own: delete ssl/__init__.py from the checkout")
    found += [f"{name} is not installed: run `make install`" for name in PACKAGES if version(name) is None]
    torch_version, vision = version("torch"), version("torchvision")
    if torch_version and vision and not _belong_together(torch_version, vision):
        found.append(
            f"torch {torch_version} and torchvision {vision} are not built for each other; tested are "
            f"{TESTED_PAIR['torch']} and {TESTED_PAIR['torchvision']}: pip install -c constraints.txt torch torchvision"
        )
    try:
        import torchvision.ops  # noqa: F401 - loads the compiled operators, which fail on a wrong pair
    except Exception as error:
        found.append(f"torchvision cannot be loaded ({error}); install the tested pair from constraints.txt")
    if psutil.virtual_memory().available < 2 * GIB:
        found.append("less than 2 GiB of memory is free: lower batch sizes or close other programs")
    return found


def version(package: str) -> str | None:
    """The installed version of a package, None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _belong_together(torch_version: str, vision: str) -> bool:
    """torchvision 0.N belongs to torch 2.(N - 15), from torch 2.0 with 0.15 on."""
    major, minor = (int(part) for part in torch_version.split("+")[0].split(".")[:2])
    return major != 2 or int(vision.split(".")[1]) == minor + 15
