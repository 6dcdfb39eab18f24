"""The report: one page with everything inside, every table and figure as a file, and no name that becomes markup."""

import json
import re
from html.parser import HTMLParser

import pytest
from matplotlib import pyplot as plt

from tests.support import picture_of, table_of, write


class Page(HTMLParser):
    """The elements of a page, their attributes and the words outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self._skipped = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._skipped = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._skipped = False

    def handle_data(self, data):
        if not self._skipped and data.strip():
            self.words.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(tmp_path):
    return Page(write(tmp_path).read_text())


def test_every_table_and_figure_is_a_file_that_the_page_links_to(tmp_path):
    text = write(tmp_path, tables=[table_of(), table_of("Paper", comparisons=0)]).read_text()
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    first = {f"tables/table_1.{e}" for e in ("csv", "md", "tex", "comparisons.csv")}
    second = {f"tables/table_2.{e}" for e in ("csv", "md", "tex")}
    figures = {f"figures/curves.{e}" for e in ("svg", "pdf", "png")}
    assert files == {"report.html"} | first | second | figures
    links = {a["href"] for a in Page(text).all("a") if not a["href"].startswith("#")}
    assert links == files - {"report.html"}
    assert (tmp_path / "figures/curves.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "figures/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figures/curves.svg").read_text().startswith("<svg")
    assert not plt.get_fignums()


def test_the_page_carries_its_figures_and_fetches_nothing(page, tmp_path):
    text = (tmp_path / "report.html").read_text()
    assert len(page.all("svg")) == 1
    assert not page.all("img")
    assert not [a for a in page.all("script") if "src" in a]
    assert [a["href"] for a in page.all("link")] == ["data:,"]
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//|@import|url\((?!#)""", text)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_contents_lead_to_every_section(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    targets = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#") and "filter=" not in a["href"]]
    assert targets == ["results", "curves", "runs", "made"]
    assert set(targets) <= set(ids)


def test_ids_are_unique_with_many_figures(tmp_path):
    page = Page(write(tmp_path, pictures=[picture_of(f"f{i}") for i in range(3)]).read_text())
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) > 60
    assert len(set(ids)) == len(ids)
    uses = {v[1:] for _, a in page.elements for k, v in a.items() if k.endswith("href") and v.startswith("#")}
    assert {use for use in uses if not use.startswith("filter=")} <= set(ids)


def test_figures_take_the_page_s_ink_but_files_keep_theirs(tmp_path):
    pictures = [picture_of()]
    pictures[0].figure.axes[0].title.set_color("#1a1d22")
    text = write(tmp_path, pictures=pictures).read_text()
    inside = text[text.index("<svg") : text.index("</svg>")]
    assert "var(--ink)" in inside
    assert "#1a1d22" not in inside
    assert "var(" not in (tmp_path / "figures/curves.svg").read_text()


def test_readers_who_cannot_see_get_words(tmp_path):
    page = Page(write(tmp_path, pictures=[picture_of("a"), picture_of("b", alt="Both fall.")]).read_text())
    pictures = [a for _, a in page.elements if a.get("role") == "img"]
    assert [a["aria-label"] for a in pictures] == ["Caption of a", "Both fall."]
    heads = page.all("th")
    assert heads
    assert all(a.get("scope") in ("col", "row") for a in heads)
    assert page.all("html") == [{"lang": "en"}]
    assert [tag for tag, _ in page.elements].count("h1") == 1


def test_names_never_become_markup(tmp_path):
    evil = "</script><script>alert(1)</script><b>\" onload='x' &"
    text = write(
        tmp_path, title=evil, question=evil, tables=[table_of(evil)], pictures=[picture_of(text=evil, alt=evil)],
        runs=[{evil: evil}], notes=[evil], warnings=[evil], facts={evil: {evil: evil, "deep": {evil: [evil]}}},
    ).read_text()  # fmt: skip
    page = Page(text)
    assert len(page.all("script")) == 2  # the page's data and its program
    assert not page.all("b")
    assert not [a for _, a in page.elements if "onload" in a]
    assert page.words.count(evil) >= 6


def test_warnings_stand_above_the_tables(tmp_path):
    text = write(
        tmp_path, warnings=["comparison-full-seed1 has no result: it broke"], notes=["No leakage."]
    ).read_text()
    assert text.index("it broke") < text.index("No leakage.") < text.index("80.00")
    assert [a for a in Page(text).all("li") if a.get("class") == "alarm"]
    calm = write(tmp_path).read_text()
    assert not [a for a in Page(calm).all("li") if a.get("class") == "alarm"]


def test_runs_and_facts_are_all_there(page):
    runs = page.words[page.words.index("run") : page.words.index("How these numbers were made", 20)]
    assert runs == ["run", "method", "extra", "a", "full", "b", "random", "1.5"]
    text = " ".join(page.words)
    assert "commit abc" in text
    assert json.dumps({"packages": {"torch": "2"}}, indent=1) in text
    assert "run it" in text


def test_a_study_without_runs_or_pictures_has_a_page(tmp_path):
    page = Page(write(tmp_path, runs=[], pictures=[], notes=[], facts={}).read_text())
    assert "What was run" in page.words


def test_a_second_report_replaces_the_first(tmp_path):
    write(tmp_path, title="First")
    text = write(tmp_path, title="Second").read_text()
    assert "Second" in text
    assert "First" not in text
    assert not list(tmp_path.glob("*.partial"))


def test_two_pictures_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the pictures' names a, a must differ"):
        write(tmp_path, pictures=[picture_of("a"), picture_of("a")])
    plt.close("all")
