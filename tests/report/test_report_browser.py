"""The report in headless Chromium: nothing is cut off, nothing is fetched, and clicks do what a reader asks."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.report.case_viewer import GREY_KNOTS, HU_KNOTS, _webp, svg_path
from experiments.report.curves import FINETUNING, curves_data, draw_curves
from experiments.report.figures import SINGLE_CM, STRUCTURE_COLORS, Curve
from experiments.report.from_rows import (
    behind_rows,
    cohorts_of,
    compact_tables,
    lead_pictures,
    other_tables,
    patients_picture,
    verdict_lines,
)
from experiments.report.page import Picture, Report, write_report
from experiments.report.palette import looks
from experiments.studies import STUDIES
from tests.browser import needs_chromium
from tests.support import rows_of, wave

pytestmark = needs_chromium
AXE = Path(__file__).resolve().parents[1] / "vendor" / "axe.min.js"
WIDTHS = (390, 800, 1280, 1400)
METHODS = ("random", "gl", "simclr", "full")
STRUCTURES = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")


def study_rows():
    skill = {"random": 0.60, "gl": 0.63, "simclr": 0.62, "full": 0.68}
    dice = {m: lambda seed, i, s, m=m: skill[m] + wave(i + len(s)) + 0.004 * seed * (len(m) - 4) for m in METHODS}
    rows = rows_of(dice, seeds=(0, 1, 2), structures=STRUCTURES, slices=1)
    first = (
        (rows["method"] == "random") & (rows["case"] == "c3") & (rows["structure"] == "Larynx") & (rows["seed"] == 1)
    )
    rows.loc[first, ["dice", "hausdorff_mm"]] = 0.0, np.inf  # a miss
    return rows.assign(cohort="Head and neck", hausdorff95_mm=rows["hausdorff_mm"] / 2, surface_dice=rows["dice"])


def run_records():
    return [
        {"run": f"{method}-seed{seed}", "method": method, "seed": seed, "mean DSC (%)": score}
        for method, seed, score in (("random", 0, "9.5"), ("random", 1, "62.25"), ("full", 0, "62.3"), ("full", 1, ""))
    ]


def cases_of(count=2, size=48):
    """Two cases of two slices, in which every run has segmented a square that is a little off."""
    runs = [{"method": m, "seed": s} for m in METHODS for s in (0, 1)]
    mask = np.zeros((size, size), bool)
    mask[10:20, 12:24] = True
    image = np.linspace(-1000, 1000, size * size).reshape(size, size)

    def of(shift):
        return [{str(c): svg_path(np.roll(mask, shift + 2 * c, 1)) for c in range(2)} for _ in range(2)]

    cases = [
        {"case": f"c{i}", "mm": [3.0, 1.0, 1.0], "size": [size, size], "z": [4, 7], "first": 1,
         "images": [_webp(image), _webp(image[::-1])], "reference": of(0),
         "runs": [of(1 + k) for k in range(len(runs))],
         "dice": [{"0": 80.0, "1": 0.0 if i else 70.0} for _ in runs]}
        for i in range(count)
    ]  # fmt: skip
    packed = base64.b64encode(gzip.compress(json.dumps(cases).encode())).decode()
    names = [{"case": case["case"], "why": "worst gain", "gain": -1.5} for case in cases]
    colors = list(STRUCTURE_COLORS[:2])
    return {"rule": "Chosen by the gain.", "runs": runs, "structures": list(STRUCTURES[:2]), "colors": colors,
            "cases": names, "packed": packed, "hu": HU_KNOTS, "grey": GREY_KNOTS}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    study, known = STUDIES["comparison"], looks(METHODS)
    words = {method: look.words for method, look in known.items()}
    [one] = cohorts = cohorts_of(study, study_rows())
    lines = [{"step": i, "loss": 1 / (i + 1), "validation_dice": i / 40} for i in range(30)]
    curves = [Curve(method, seed, lines) for method in METHODS for seed in (0, 1)]
    drawn = draw_curves(curves, FINETUNING, known, width_cm=SINGLE_CM)
    pictures = [
        patients_picture(one, known),
        Picture("finetuning", "Fine-tuning", "Curves.", drawn, plot="curves", data=curves_data(curves, FINETUNING)),
    ]
    run = {"run": "full-seed0", "method": "full", "seed": 0, "cohort": "Head and neck", "labelled": 4,
           "stages": {"finetune": "finetune-abc"}, "differences": {"pretrain.method": ["a", "b"]},
           "log": {"finetune": ["step=3, loss=0.5"]}, "error": None}  # fmt: skip
    report = Report(
        title="Pre-training compared", question=study.question, verdicts=verdict_lines(study, cohorts),
        badges=[("undecided", "full over random: undecided")], lead=lead_pictures(cohorts, known),
        strip={"patients": "4 / 2 / 8", "command": "python -m experiments run comparison --store " + "long/" * 30},
        results={one.cohort: compact_tables(study, one, words)}, tables=other_tables(study, one), pictures=pictures,
        runs=run_records(), notes=["No leakage."], facts={"environment": {"commit": "abc" * 20}}, methods=list(METHODS),
        behind={**behind_rows(cohorts), "runs": [run]}, cases=cases_of(), paper={"Methods": "We compared."},
    )  # fmt: skip
    return write_report(report, tmp_path_factory.mktemp("report"))


@pytest.fixture
def open_page(browser, page):
    """Opens the page; every test ends with a look at what the browser logged."""
    tabs = []

    def opened(hash_="", **how):
        tabs.append(browser.open(f"file://{page}{hash_}", **how))
        return tabs[-1]

    yield opened
    assert [tab.problems for tab in tabs] == [[] for _ in tabs]


def shown(tab):
    """Names of the runs that a reader sees, in their order."""
    return tab.ask(
        "[...document.querySelectorAll('#run-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].innerText)"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_nothing_scrolls_sideways(open_page, width):
    tab = open_page(width=width)
    tab.wait("document.querySelectorAll('.plot svg').length >= 5")
    assert tab.cut_off() == []
    assert tab.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.ask("document.querySelector('.results td[data-label=Mandible]').offsetParent !== null")
    hidden = "e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible'"
    assert tab.ask(f"[...document.querySelectorAll('.results, .results *')].filter({hidden}).length") == 0


def test_the_verdict_comes_first_and_the_average_is_the_first_column(open_page):
    tab = open_page()
    text = tab.words()
    assert text.index("Pixel-global (ours) gains") < text.index("4 / 2 / 8") < text.index("Results")
    assert tab.ask("document.querySelector('.results thead').innerText").startswith("Method\tAverage")
    assert tab.ask("getComputedStyle(document.querySelector('.results td:nth-child(2)')).position") == "sticky"


def test_the_switch_shows_one_metric_and_the_sort_orders_it(open_page):
    tab = open_page()
    metrics = "[...document.querySelectorAll('.results table')].filter(t => t.offsetParent).map(t => t.dataset.metric)"
    assert tab.ask(metrics) == ["dice"]
    tab.ask("[...document.querySelectorAll('[data-show]')].find(b => b.innerText === 'HD95 (mm)').click()")
    assert tab.ask(metrics) == ["hausdorff95"]
    assert "1 missed" in tab.words(".one:not([hidden]) .results")
    tab.ask("[...document.querySelectorAll('[data-show]')].find(b => b.innerText === 'DSC (%)').click()")
    sort = "s = document.querySelector('.sorter'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    tab.ask(sort)
    order = "[...document.querySelectorAll('.one:not([hidden]) tbody tr')].map(r => r.dataset.method)"
    assert tab.ask(order)[0] == "full"
    tab.click(".one:not([hidden]) thead th:nth-child(2) button")
    assert tab.ask(order)[-1] == "full"


def test_a_table_is_copied_in_three_forms(open_page):
    tab = open_page()
    tab.ask(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async text => { window.copied = text; }}})"
    )
    for kind, begin in (
        ("tex", "% \\usepackage{booktabs"),
        ("md", "**Pre-training compared"),
        ("csv", "method,structure"),
    ):
        tab.click(f"[data-copy-table={kind}]")
        assert tab.wait("window.copied").startswith(begin)
        tab.ask("window.copied = ''")


def test_a_number_opens_its_rows_and_a_run_its_settings_and_log(open_page):
    tab = open_page()
    tab.click("button.number[data-method=full][data-structure=Larynx]")
    text = tab.words("dialog")
    assert "Pixel-global (ours), Larynx: DSC (%) of each case and run" in text
    assert "c7" in text
    assert "seed 2" in text
    tab.click("dialog p button")
    text = tab.words("dialog")
    assert "pretrain.method" in text
    assert "step=3, loss=0.5" in text
    assert tab.ask("document.querySelector('dialog a').getAttribute('href')") == "../stages/finetune-abc/"


def test_a_patient_opens_the_case_or_its_numbers(open_page):
    tab = open_page()
    tab.wait("document.getElementById('case-viewer').dataset.shown")
    open_patient = "document.dispatchEvent(new CustomEvent('open-patient', {{detail: {{case: '{}'}}}}))"
    tab.ask(open_patient.format("c1"))
    tab.wait("document.getElementById('case-viewer').dataset.shown === 'c1/7'")
    tab.ask(open_patient.format("c5"))
    assert "The page has no pictures of this case" in tab.words("dialog")


def test_the_case_viewer_has_slices_windows_structures_runs_and_errors(open_page):
    tab = open_page()
    tab.wait("document.querySelectorAll('#case-panels canvas').length === 4")
    paths = "document.querySelectorAll('#case-panels path:not(clipPath path)').length"
    grey = "document.querySelector('#case-panels canvas').getContext('2d').getImageData(24, 24, 1, 1).data[0]"
    white = "document.querySelectorAll('#case-panels path[stroke=\"#fff\"][stroke-dasharray]').length"
    assert tab.ask(paths) == 4 * 2 * 2  # methods, structures, reference and prediction
    assert tab.ask(white) == 4 * 2
    assert "mm" in tab.words(".case-scale")
    assert "Brainstem 80.0" in tab.words(".case-scores")
    soft = tab.ask(grey)
    tab.ask("[...document.querySelectorAll('[data-window]')].find(b => b.innerText === 'Lung').click()")
    tab.wait(f"{grey} !== {soft}")
    tab.click("#case-structures input")
    tab.wait(f"{paths} === {4 * 2}")
    tab.click("#case-structures input")
    tab.wait(f"{paths} === {4 * 4}")
    tab.click("#case-errors")
    tab.wait("document.querySelectorAll('#case-panels clipPath').length === 16")
    tab.click("#case-errors")
    tab.ask("r = document.getElementById('case-run'); r.value = 'all'; r.dispatchEvent(new Event('change'))")
    tab.wait(f"{paths} === {4 * 2 * 3}")
    tab.ask("s = document.getElementById('case-slice'); s.value = 0; s.dispatchEvent(new Event('input'))")
    tab.wait("document.getElementById('case-viewer').dataset.shown === 'c0/4'")
    tab.ask("c = document.getElementById('case-choice'); c.value = 1; c.dispatchEvent(new Event('change'))")
    tab.wait("document.querySelector('.case-scores .missed') !== null")


def test_curves_share_one_hover(open_page):
    tab = open_page()
    move = ("f = document.querySelector('[data-plot=curves] svg[viewBox*=\" 190\"]'); b = f.getBoundingClientRect(); "
            "f.dispatchEvent(new PointerEvent('pointermove', {clientX: b.left + b.width / 2, clientY: b.top + 50}))"
            )  # fmt: skip
    tab.wait("document.querySelector('[data-plot=curves] svg[viewBox*=\" 190\"]') !== null")
    tab.ask(move)
    assert "validation Dice: " in tab.words("[data-plot=curves]")
    assert tab.ask("document.querySelectorAll('[data-plot=curves] line[visibility=visible]').length") == 2


def test_an_error_or_a_fetch_would_be_noticed(browser, page):
    tab = browser.open(f"file://{page}")
    tab.ask("setTimeout(() => undefinedFunction())")
    tab.ask("picture = new Image(); picture.src = 'http://127.0.0.1:9/x.png'; document.body.append(picture); 1")
    tab.ask("new Promise(done => setTimeout(done, 300))")
    assert "undefinedFunction is not defined" in str(tab.problems)
    assert "Content Security Policy" in str(tab.problems)


@pytest.mark.parametrize(
    ("hash_", "expected"),
    [
        ("#filter=random", ["random-seed0", "random-seed1"]),
        ("#filter=SEED1%20full", ["full-seed1"]),
        ("#sort=mean%20DSC%20(%25)", ["random-seed0", "random-seed1", "full-seed0", "full-seed1"]),
        ("#sort=mean%20DSC%20(%25)&order=descending", ["full-seed0", "random-seed1", "random-seed0", "full-seed1"]),
        ("#filter=seed0&sort=run", ["full-seed0", "random-seed0"]),
        ("#sort=nonsense", [run["run"] for run in run_records()]),
    ],
)
def test_a_link_can_open_it_sorted_and_filtered(open_page, hash_, expected):
    """Numbers sort by size (9.5 < 62.25 < 62.3), an empty score is last either way."""
    assert shown(open_page(hash_)) == expected


def test_clicks_and_words_filter_the_runs(open_page):
    tab = open_page()
    assert "4 of 4 runs" in tab.words()
    tab.ask(
        "m = document.querySelector('select[data-column=method]'); m.value = 'is:random'; "
        "m.dispatchEvent(new Event('change'))"
    )
    assert shown(tab) == ["random-seed0", "random-seed1"]
    tab.ask("w = document.getElementById('filter'); w.value = 'seed0'; w.dispatchEvent(new Event('input'))")
    assert shown(tab) == ["random-seed0"]
    columns = tab.ask("[...document.querySelectorAll('[data-column]')].map(e => e.dataset.column)")
    assert columns == ["method", "seed"]  # settings have choices, measurements have not


@pytest.mark.parametrize("dark", [False, True])
def test_it_has_no_serious_barrier(open_page, dark):
    """axe-core finds nothing serious or critical, light or dark: contrast, names, roles, order."""
    tab = open_page(dark=dark)
    tab.wait("document.getElementById('case-viewer').dataset.shown")
    tab.ask(AXE.read_text() + "; 1")
    found = tab.ask("axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
                    ".map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)]))")  # fmt: skip
    assert found == []


def test_it_prints(open_page):
    paper = base64.b64decode(open_page().pdf())
    assert paper.startswith(b"%PDF")
    assert len(paper) > 20_000
