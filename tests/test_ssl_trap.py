"""`import ssl` is Python's own: from the root, under pytest and in a Ray worker whose working directory is the root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECK = "import ssl; ssl.SSLContext; print(ssl.__file__)"


def test_the_source_root_is_no_package():
    assert not (ROOT / "ssl" / "__init__.py").exists()


def test_from_the_root():
    answer = subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in answer.stdout


def test_under_pytest():
    import ssl

    assert ssl.SSLContext
    assert str(ROOT / "ssl") not in ssl.__file__


@pytest.mark.cluster
def test_in_a_ray_worker_with_the_root_as_working_directory(tmp_path):
    program = tmp_path / "driver.py"
    program.write_text(
        "import ray\n"
        "ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False,\n"
        f"         runtime_env={{'working_dir': {str(ROOT)!r}, 'env_vars': {{'PYTHONPATH': 'ssl:.'}},\n"
        "                       'excludes': ['.venv', '.git', 'demo', 'runs', '.mypy_cache']})\n"
        "@ray.remote\n"
        "def where():\n"
        "    import os, ssl, pixelglobal, experiments\n"
        "    ssl.SSLContext\n"
        "    return os.getcwd(), ssl.__file__, pixelglobal.__file__, experiments.__file__\n"
        "print(*ray.get(where.remote()), sep='\\n')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    answer = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert answer.returncode == 0, answer.stderr
    folder, python_ssl, library, studies = answer.stdout.splitlines()[-4:]
    assert folder not in python_ssl
    assert library == f"{folder}/ssl/pixelglobal/__init__.py"
    assert studies == f"{folder}/experiments/__init__.py"
