"""What the documents say is so: README's table comes from its rows, its links and named tests exist."""

import re
from pathlib import Path

from experiments.readme import with_table

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_in_readme_is_printed_from_the_demo_s_rows():
    text = (ROOT / "README.md").read_text()
    assert text == with_table(text), "run: python -m experiments.readme"
    assert "| full | DSC (%) |" in text


def test_links_and_named_files_exist():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = document.read_text()
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
        for name in re.findall(r"`(tests/[\w./]+\.py)`", text):
            assert (ROOT / name).exists(), f"{document.name} names {name}"
