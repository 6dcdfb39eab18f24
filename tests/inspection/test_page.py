"""The page of an inspection in headless Chromium: whole at any width, without a network, the worst scan first."""

import re
from pathlib import Path

import numpy as np
import pytest

import pixelglobal as pg
from pixelglobal.config.overrides import with_settings
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.phantom_pictures import make_phantom_pictures
from pixelglobal.data.prepare import prepare
from tests.browser import needs_chromium
from tests.data.test_checks import rewrite
from tests.support import TINY, phantom_store

AXE = Path(__file__).resolve().parents[1] / "vendor" / "axe.min.js"


@pytest.fixture(scope="module")
def page(tiny, tmp_path_factory):
    """Two cohorts; in the first, one scan is constant, one cannot be read, and the sides of one are exchanged."""
    folder = tmp_path_factory.mktemp("inspected")
    scans = make_phantom_cohort(folder / "scans", n_patients=6, n_unlabelled=2, size=32, n_slices=8)
    rewrite(scans, "phantom_006", image=lambda a: np.full_like(a, 7))
    (scans / "imagesTr/phantom_007.nii.gz").write_bytes(b"no scan")
    rewrite(scans, "phantom_001", label=lambda a: np.array([0, 1, 2, 4, 3], np.uint8)[a])
    first = prepare(scans, folder / "store", with_settings(tiny, prepare={"max_quarantined": 0.5}).prepare).store
    second = phantom_store(folder, tiny, "Second", seed=5)
    pg.inspect([first, second], html=folder / "page.html", compare_scans=False)
    return folder / "page.html"


def test_nothing_is_fetched_and_the_worst_scan_is_first(page):
    text = page.read_text()
    assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!["']?(?:data:|#)).{9}""", text) == []
    assert "<script" not in text
    names = [part.partition("</h3>")[0] for part in text.split("<div><h3>")[1:]]
    assert len(names) == 14
    assert set(names[:2]) == {"phantom_006", "phantom_007"}
    assert names[2] == "phantom_001"
    assert text.count("data:image/webp;base64,") == 13  # one scan has no slices


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_and_all_can_read_it(page, browser, width, dark):
    tab = browser.open(page.as_uri(), width=width, dark=dark)
    assert not tab.problems
    beyond = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scrolls') && "
    beyond += "e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"
    assert tab.ask(beyond) == 0
    tab.ask(AXE.read_text() + "; true")
    violations = tab.ask("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))")
    assert violations == []


@needs_chromium
def test_cohorts_lie_side_by_side_and_every_picture_is_drawn(page, browser):
    tab = browser.open(page.as_uri())
    tops = tab.ask("[...document.querySelectorAll('.cohorts > section')].map(e => e.getBoundingClientRect().top)")
    assert len(tops) == 2
    assert tops[0] == tops[1]
    assert "Quarantined: no body: constant or all air: every voxel is 7" in tab.words("main")
    assert tab.ask("[...document.images].every(i => i.complete && i.naturalWidth === 160)")
    assert "Bladder" in tab.words("table")


def test_pictures_are_not_judged_as_ct(tmp_path):
    folder = make_phantom_pictures(tmp_path / "pictures", n_labelled=6, n_unlabelled=2, size=40)
    settings = [*TINY, "network.in_channels=3", 'prepare.structures=["Nucleus", "Gland"]']
    store = pg.prepare(folder, tmp_path / "store", preset="smoke", settings=settings)
    assert store.quarantine == {}
    [inspection] = pg.inspect(store, html=tmp_path / "page.html", compare_scans=False)
    assert not {"not_hu", "spacing", "unusual_hu"} & inspection.by_kind.keys()
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == len(store.cases)
