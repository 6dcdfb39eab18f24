"""quarantine.csv of a store: the cases that no split has, and why.

`prepare` writes a line for each case that it cannot use or that is surely wrong; a line that a person adds stays as it
is. Columns: case, reason, and by, which is "prepare" in the lines that `prepare` writes anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pixelglobal.files import write_file

COLUMNS = ["case", "reason", "by"]


def read_quarantine(root: Path) -> pd.DataFrame:
    """The lines of quarantine.csv, whose column `by` is empty where a person wrote them; none without the file.

    Raises ValueError if the columns case and reason are not there.
    """
    path = root / "quarantine.csv"
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not {"case", "reason"} <= set(table.columns):
        raise ValueError(f"{path} has the columns {', '.join(table.columns)}; expected case and reason")
    if "by" not in table:
        table["by"] = ""
    return table[COLUMNS]


def write_quarantine(root: Path, reasons: Mapping[str, str]) -> None:
    """Write {case: reason} of `prepare` in place of its earlier lines, after those that a person wrote."""
    lines = read_quarantine(root)
    by_hand = lines[lines["by"] != "prepare"]
    new = [(case, reason, "prepare") for case, reason in sorted(reasons.items()) if case not in set(by_hand["case"])]
    if len(by_hand) or new or len(lines):
        table = pd.concat([by_hand, pd.DataFrame(new, columns=COLUMNS, dtype=str)])
        write_file(root / "quarantine.csv", table.to_csv(index=False))
