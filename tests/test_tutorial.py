"""The tutorial: its commands, run in their order in an empty folder, end with the report that it promises."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

TUTORIAL = ROOT / "docs" / "tutorial" / "first-study.md"


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path):
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text(), re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 6
    path = os.pathsep.join([str(ROOT), str(ROOT / "ssl"), os.environ.get("PYTHONPATH", "")])
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": path, "PATH": programs}
    for command in commands:
        words = shlex.split(command)
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    page = (tmp_path / "runs/comparison/report.html").read_text()
    assert "as registered" in page.lower()
