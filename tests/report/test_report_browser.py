"""The report in headless Chromium: no error, nothing fetched, and its sort and filter do what a reader asks."""

import re
import shutil
import subprocess

import pytest

from tests.support import picture_of, table_of, write

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome is installed")

RUNS = [
    {"run": f"{method}-seed{seed}", "method": method, "seed": seed, "mean DSC (%)": score}
    for method, seed, score in (("random", 0, "9.5"), ("random", 1, "62.25"), ("full", 0, "62.3"), ("full", 1, ""))
]


def browse(page, *, hash_="", hand=""):
    """The page as the browser has it after `hand`, a script that acts as a reader would; and what it logged."""
    if hand:
        copy = page.with_name("hand.html")
        copy.write_text(page.read_text().replace("</body>", f"<script>{{{hand}}}</script></body>"))
        page = copy
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom",
               f"file://{page}{hash_}"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return answer.stdout, [line for line in answer.stderr.splitlines() if "CONSOLE" in line]


def shown(dom):
    """Names of the runs that a reader sees, in their order."""
    table = dom[dom.index('<table id="run-table"') :]
    rows = re.findall(r"<tr([^>]*)><td>([^<]*)</td>", table[: table.index("</table>")])
    return [name for attributes, name in rows if "hidden" not in attributes]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pictures = [picture_of("curves"), picture_of("patients")]
    return write(tmp_path_factory.mktemp("report"), runs=RUNS, tables=[table_of(), table_of("B")], pictures=pictures)


def test_it_opens_without_an_error(page):
    dom, console = browse(page)
    assert console == []
    assert dom.count("<svg") == 2
    assert dom.count('class="metric-card"') == 2
    assert shown(dom) == [run["run"] for run in RUNS]
    assert "4 of 4 runs" in dom


def test_a_method_of_a_table_leads_to_its_runs(page):
    text = page.read_text()
    assert text.count('<a href="#filter=-full-">full</a>') == 2  # both tables
    dom, console = browse(page, hand="location.hash = 'filter=full'; window.dispatchEvent(new Event('hashchange'))")
    assert console == []
    assert shown(dom) == ["full-seed0", "full-seed1"]


def test_an_error_or_a_fetch_would_be_noticed(page):
    _, console = browse(page, hand="undefinedFunction()")
    assert "undefinedFunction is not defined" in console[0]
    hand = "const picture = new Image(); picture.src = 'http://127.0.0.1:9/x.png'; document.body.append(picture);"
    _, console = browse(page, hand=hand)
    assert "Content Security Policy" in console[0]


@pytest.mark.parametrize(
    ("hash_", "expected"),
    [
        ("#filter=random", ["random-seed0", "random-seed1"]),
        ("#filter=SEED1%20full", ["full-seed1"]),
        ("#sort=mean%20DSC%20(%25)", ["random-seed0", "random-seed1", "full-seed0", "full-seed1"]),
        ("#sort=mean%20DSC%20(%25)&order=descending", ["full-seed0", "random-seed1", "random-seed0", "full-seed1"]),
        ("#filter=seed0&sort=run", ["full-seed0", "random-seed0"]),
        ("#sort=nonsense", [run["run"] for run in RUNS]),
    ],
)
def test_a_link_can_open_it_sorted_and_filtered(page, hash_, expected):
    """Numbers sort by size (9.5 < 62.25 < 62.3), an empty score is last either way."""
    dom, console = browse(page, hash_=hash_)
    assert console == []
    assert shown(dom) == expected


def test_a_reader_s_clicks_sort_and_filter(page):
    hand = """
      const button = [...document.querySelectorAll("#run-table th button")].find(b => b.textContent === "mean DSC (%)");
      button.click(); button.click();
      const method = document.querySelector("select[data-column=method]");
      method.value = "is:random"; method.dispatchEvent(new Event("change"));
    """
    dom, console = browse(page, hand=hand)
    assert console == []
    assert shown(dom) == ["random-seed1", "random-seed0"]
    assert 'aria-sort="descending"' in dom
    assert "2 of 4 runs" in dom


def test_typing_filters_and_settings_have_choices_but_measurements_do_not(page):
    hand = """
      const words = document.getElementById("filter");
      words.value = "full seed0"; words.dispatchEvent(new Event("input"));
    """
    dom, console = browse(page, hand=hand)
    assert console == []
    assert shown(dom) == ["full-seed0"]
    assert set(re.findall(r'data-column="([^"]*)"', dom)) == {"method", "seed"}


def test_it_prints(page, tmp_path):
    paper = tmp_path / "report.pdf"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
               "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
               f"--print-to-pdf={paper}", f"file://{page}"]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 10_000
