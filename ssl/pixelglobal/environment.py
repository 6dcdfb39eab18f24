"""What ran: the code, the versions and the machine, as kept beside every result."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

DISTRIBUTIONS = ("pixelglobal", "torch", "torchvision", "timm", "ray", "numpy", "scipy", "pandas", "pyarrow", "nibabel")
LIBRARY = Path(__file__).resolve().parent
CHECKOUT = LIBRARY.parents[1]


def environment(packages: Sequence[Path] = ()) -> dict[str, Any]:
    """Commit, versions and machine, as JSON values.

    packages: folders of Python packages that run with this library, see `source_hash`. `commit` is `source-HASH` where
    there is no git, as in a job that was sent to Ray.
    """
    source = source_hash(packages)
    return {
        "commit": git("rev-parse", "HEAD") or f"source-{source}",
        "uncommitted_changes": bool(git("status", "--porcelain")),
        "source": source,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "cpus": os.cpu_count(),
        "packages": {name: version(name) or "from source" for name in DISTRIBUTIONS},
    }


def source_hash(packages: Sequence[Path] = ()) -> str:
    """A hash of the Python files of this library and of further packages, the same wherever they lie.

    packages: folders such as that of the studies. Returns 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for folder in (LIBRARY, *(package.resolve() for package in packages)):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def git(*arguments: str) -> str:
    """The answer of git about this checkout, empty when there is none."""
    if not (CHECKOUT / ".git").exists() or not shutil.which("git"):  # a copy inside another project is not that project
        return ""
    answer = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def version(distribution: str) -> str | None:
    """The installed version of a distribution, None if there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
