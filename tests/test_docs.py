"""What the documents say is so: README's table comes from its rows, its links and named tests exist."""

import re
from pathlib import Path

import pytest

from experiments.report.generated_tables import PRINTED, with_table

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", PRINTED, ids=lambda path: path.name)
def test_tables_in_documents_are_printed_from_results(path):
    text, (mark, table) = path.read_text(), PRINTED[path]
    assert text == with_table(text, mark, table()), "run: python -m experiments.report.generated_tables"
    assert text.count("| --- |") >= 1


def test_links_and_named_files_exist():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = document.read_text()
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
        for name in re.findall(r"`(tests/[\w./]+\.py)`", text):
            assert (ROOT / name).exists(), f"{document.name} names {name}"
