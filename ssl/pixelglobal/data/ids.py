"""Nobody's name travels: scans and patients are known by salted hashes from `prepare` on.

A hash depends on the name and on a random salt. Salt and names stay in one file beside the scans that only its owner
can read (`.pixelglobal-ids.json`, mode 600); with it, the same scans get the same hashes in every store, and nobody
without it can tell whether a name that they guess is among them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelglobal.data.cohorts import Case
from pixelglobal.data.splits import Splits
from pixelglobal.files import WriteError, read_json_object, write_file

ID_MAP = ".pixelglobal-ids.json"


@dataclass(frozen=True)
class Ids:
    """The names by which scans and patients are known in a store: hashes, or without a salt their own names."""

    salt: bytes | None

    def case(self, name: str) -> str:
        """The id of a scan."""
        return self._hashed("s", name)

    def patient(self, name: str) -> str:
        """The id of a patient."""
        return self._hashed("p", name)

    def _hashed(self, first: str, name: str) -> str:
        """Begins with a letter, as a table would read digits as a number."""
        if self.salt is None:
            return name
        return first + hashlib.blake2b(name.encode(), key=self.salt, digest_size=6).hexdigest()

    def splits(self, splits: Splits) -> Splits:
        """The same splits, in the order of the ids: that of the names would tell something about them."""
        if self.salt is None:
            return splits
        return Splits(**{name: tuple(sorted(map(self.case, part))) for name, part in vars(splits).items()})

    def hide(self, text: str, cases: Sequence[Case]) -> str:
        """A message with ids in place of the names of cases and patients."""
        names = {case.patient: self.patient(case.patient) for case in cases}
        return self._replace(text, names | {case.case: self.case(case.case) for case in cases})

    def hide_files(self, text: str, case: Case) -> str:
        """A message about a case with its id in place of its names, files and folder."""
        own = self.case(case.case)
        files = [(path, "image") for path in (case.image, *case.series)] + [(case.label, "labels")]
        shown = {
            str(case.image.parent): f"the folder of {own}",
            case.patient: self.patient(case.patient),
            case.case: own,
        }
        for path, what in files:
            if path is not None:
                shown |= dict.fromkeys((str(path), path.name), f"the {what} of {own}")
        return self._replace(text, shown)

    def _replace(self, text: str, shown: Mapping[str, str]) -> str:
        if self.salt is None or not shown:
            return text
        longest_first = sorted(shown, key=len, reverse=True)  # a name may be a part of another
        either = "|".join(re.escape(name) for name in longest_first)
        return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda found: shown[found.group()], text)


KEPT = Ids(None)


def ids_beside(scans: Path, file: Path | None, cases: Sequence[Case]) -> Ids:
    """The ids of a folder of scans; salt and names are kept in `file`, or beside the scans in ID_MAP.

    Raises ValueError if that cannot be read or written.
    """
    path = file or scans / ID_MAP
    before: dict[str, Any] = read_json_object(path) if path.is_file() else {}
    try:
        salt = bytes.fromhex(before.get("salt") or secrets.token_hex(16))
    except (TypeError, ValueError):
        raise ValueError(f"{path}: holds no salt; expected the file that `pixelglobal prepare` wrote") from None
    ids = Ids(salt)
    names = {
        ids.case(c.case): {
            "case": c.case,
            "patient": c.patient,
            "patient_id": ids.patient(c.patient),
            "image": str(c.image),
        }
        for c in cases
    }
    known = {**(before.get("cases") or {}), **names}
    if known != before.get("cases"):
        _write_privately(path, {"salt": salt.hex(), "cases": known})
    return ids


def _write_privately(path: Path, value: dict[str, Any]) -> None:
    def write(scratch: Path) -> None:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(value, file, indent=1)

    try:
        write_file(path, write)
    except WriteError as error:
        raise ValueError(
            f"the names of scans and their ids cannot be kept in {path} ({error.__cause__}); give a file that can be "
            "written by prepare.id_map=FILE, or keep the names in the store by --keep-ids"
        ) from error
