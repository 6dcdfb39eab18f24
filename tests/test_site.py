"""The site of the documents is built without a warning, holds every setting and command, and fetches nothing."""

import html
import re
import subprocess
import sys

import pytest

from pixelglobal.config.overrides import resolve
from pixelglobal.config.schema import Config
from pixelglobal.data.layouts import read_cohort
from tests.support import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site is built with the extra docs")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_settings_have_the_comment_beside_them(site):
    page = (site / "reference/settings.html").read_text()
    rows = {row.partition("</code>")[0].rpartition("<code>")[2]: row for row in page.split("<tr>")}
    assert {f"pretrain.{name}" for name in type(Config().pretrain).model_fields} <= set(rows)
    assert "warm-up period of 2 epochs" in rows["pretrain.warmup_epochs"]
    assert "<code>64</code>" in rows["prepare.image_size"]  # of preset smoke
    assert "any timm encoder" in rows["network.encoder"]


def test_commands_have_their_options(site):
    page = (site / "reference/commands.html").read_text()
    for words in ("pixelglobal prepare", "python -m experiments run", "python -m experiments bench metrics"):
        assert f">{words}<" in page
    assert "<code>--seeds</code>" in page


def test_errors_are_listed_as_they_are_raised(site, tmp_path):
    page = html.unescape((site / "reference/errors.html").read_text())
    with pytest.raises(ValueError, match="there is no such folder") as raised:
        read_cohort(tmp_path / "nowhere")
    assert str(raised.value).replace(str(tmp_path / "nowhere"), "…") in page
    with pytest.raises(ValueError, match="must be even") as raised:
        resolve("smoke", ["pretrain.batch_size=3"])
    assert "pretrain.batch_size=… must be even: slices come as pairs of partners" in page


def test_nothing_is_fetched(site):
    (site / "404.html").unlink()  # which only a web server shows
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?https?://", page.read_text()), page.name
    assert "iframe-worker" in (site / "index.html").read_text()
