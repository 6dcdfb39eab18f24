"""Files and folders that are written whole or not at all.

Content is written under a scratch name beside its place, brought to the disk with fsync and renamed. A killed process,
a full disk or a second writer therefore leaves the old content or the new one, never a part of either. A killed process
may also leave its scratch, whose name begins with `.partial-`; nothing reads it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from jinja2 import Template


class WriteError(OSError):
    """A file or folder could not be written; what was there before is intact."""


def write_file(path: Path, content: bytes | str | Callable[[Path], object]) -> Path:
    """Write a file in one step, replacing what was there, and return its path; its folder is made if need be.

    content: bytes, text (written as UTF-8), or a function that writes to the path it is given. That path has the ending
    of `path`, by which many libraries choose a format. Raises WriteError if the disk is full or cannot be written to.
    """
    with _scratch_beside(path) as scratch:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(scratch)
        else:
            scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        _sync(scratch)
        scratch.replace(path)
        _sync(path.parent)
    return path


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` when the `with` block ends.

    If the block raises, `folder` stays as it was. A folder that is replaced is absent for the instant between two
    renames. Raises WriteError if the disk is full or cannot be written to.
    """
    with _scratch_beside(folder) as scratch:
        scratch.mkdir(parents=True)
        yield scratch
        for path in [*scratch.rglob("*"), scratch]:
            _sync(path)
        _put_in_place(scratch, folder)
        _sync(folder.parent)


def write_json(path: Path, value: Any) -> Path:
    """Write a value as indented JSON, as `write_file` does."""
    return write_file(path, json.dumps(value, indent=1) + "\n")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError that names the file if there is none or it holds something else."""
    try:
        value = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a JSON {type(value).__name__}; expected an object with named entries")
    return value


Shape = TypeVar("Shape")


def read_json_as(path: Path, shape: type[Shape], **more: Any) -> Shape:
    """The object in a JSON file as a dataclass, `more` replacing its entries; entries that are not its are ignored.

    Raises ValueError that names the file and the entry that is missing or of another kind.
    """
    try:
        return TypeAdapter(shape).validate_python({**read_json_object(path), **more})
    except ValidationError as error:
        first = error.errors()[0]
        entry, seen = ".".join(map(str, first["loc"])), repr(first["input"])[:60]
        raise ValueError(
            f"{path}: its entry {entry!r} cannot be used ({first['msg']}, in {seen}); the file was damaged or edited. "
            "Restore it, or make it anew with the command that wrote it"
        ) from None


def digest_of(path: Path) -> str:
    """The SHA-256 digest of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SUMS = "SHA256SUMS"


def write_digests(folder: Path, digests: Mapping[str, str]) -> Path:
    """Write the digests of files of a folder to SHA256SUMS, which `sha256sum --check` reads too."""
    return write_file(folder / SUMS, "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)))


def add_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Add lines to SHA256SUMS. A killed process may leave a part of one, which is not read."""
    with (folder / SUMS).open("a") as file:
        file.write("".join(f"{digest}  {name}\n" for name, digest in digests.items()))


def read_digests(folder: Path) -> dict[str, str] | None:
    """{name: digest} of SHA256SUMS, the last line of each name; None if there is no such file."""
    try:
        lines = (folder / SUMS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs if len(digest) == 64}


def damaged_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of some files of a folder that are missing or not what SHA256SUMS says, if it names them."""
    digests = read_digests(folder) or {}
    named = [name for name in names if name in digests]
    return [name for name in named if not (folder / name).is_file() or digest_of(folder / name) != digests[name]]


def claim_folder(
    folder: Path, mark: str, facts: Mapping[str, Any], *, contents: str, ignored: Collection[str] = ()
) -> None:
    """Take a new or empty folder, or one that the same facts began, and write the facts to `mark` in it.

    mark: the name of a JSON file, such as "prepare.json". contents: what the folder is for, such as "store" or "run".
    ignored: facts that may differ, by name (`cluster`) or by section and name (`pretrain.compile`).
    Raises ValueError if the folder holds other files, or was begun with other facts, each of which is named.
    """
    path = folder / mark
    if path.is_file():
        before, now = _flat(read_json_object(path)), _flat(json.loads(json.dumps(facts)))
        different = [
            f"{name}={before.get(name)!r} there, {value!r} now"
            for name, value in now.items()
            if before.get(name) != value and not {name, name.partition(".")[0]} & {*ignored}
        ]
        if different:
            raise ValueError(
                f"{folder} holds a {contents} with other settings ({'; '.join(different)}); choose another folder, or "
                "give the same settings to continue it"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no {contents} of this program; choose an empty or a new folder")
    write_json(path, facts)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts by name, those of a section as `section.name`."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": entry for inner, entry in value.items()}
        else:
            flat[name] = value
    return flat


@contextmanager
def _scratch_beside(target: Path) -> Iterator[Path]:
    """A new name beside `target`; what lies there is removed if anything fails."""
    scratch = _scratch_name(target)
    try:
        yield scratch
    except BaseException as error:
        _remove(scratch)
        if isinstance(error, OSError) and not isinstance(error, WriteError | FileNotFoundError):
            raise WriteError(
                f"cannot write {target}: {error.strerror or error}. What was there before is intact. Free space on the "
                "disk, or give a folder that can be written to; the same command then goes on from the last state that "
                "was kept"
            ) from error
        raise


def _scratch_name(target: Path) -> Path:
    return target.with_name(f".partial-{secrets.token_hex(4)}-{target.name}")


def _put_in_place(scratch: Path, folder: Path) -> None:
    """Rename `scratch` to `folder`, which may hold something; rename(2) alone replaces empty folders only."""
    while True:
        old = _scratch_name(folder)
        with suppress(FileNotFoundError):
            folder.rename(old)
        try:
            scratch.rename(folder)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with suppress(FileNotFoundError):
                    old.rename(folder)
                raise
            _remove(old)  # another writer came between the two renames; its folder is replaced next
    _remove(old)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():  # not known to every network disk
            raise
    finally:
        os.close(descriptor)


def html_template(path: Path) -> Template:
    """A Jinja template, which may include its neighbours: values are escaped, and one that is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)
