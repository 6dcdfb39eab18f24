"""What ran: the code, the versions and the machine, as kept beside every result."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("pixelglobal", "torch", "torchvision", "timm", "ray", "numpy", "scipy", "pandas", "pyarrow", "nibabel")
CHECKOUT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """Commit, versions, machine. commit is `source-HASH` where there is no git, as in a job that was sent to Ray."""
    source = source_hash()
    return {
        "commit": git("rev-parse", "HEAD") or f"source-{source}",
        "uncommitted_changes": bool(git("status", "--porcelain")),
        "source": source,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def source_hash() -> str:
    """A hash of this project's Python files, the same wherever they lie: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, CHECKOUT / "experiments"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def git(*arguments: str) -> str:
    """The answer of git about this checkout, empty when there is none."""
    if not (CHECKOUT / ".git").exists() or not shutil.which("git"):  # a copy inside another project is not that project
        return ""
    answer = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from source"
