"""The site of the documents: its order, and the pages made from code (settings, commands, errors, root folder)."""

from __future__ import annotations

import ast
import html
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files
from typer.main import get_command

from experiments.__main__ import app as experiments_app
from pixelglobal import cli
from pixelglobal.config.presets import PRESETS
from pixelglobal.config.registry import METHODS, method_class
from pixelglobal.config.schema import Config
from pixelglobal.config.section import Section

ROOT = Path(__file__).resolve().parent.parent
SHORTEST_MESSAGE = 60  # characters
ERRORS = {
    "Scans, cohorts and stores": ["ssl/pixelglobal/data"],
    "Settings": [
        "ssl/pixelglobal/config",
        "ssl/pixelglobal/methods",
        "ssl/pixelglobal/networks",
        "ssl/pixelglobal/losses",
    ],
    "Training": ["ssl/pixelglobal/training", "ssl/pixelglobal/cluster"],
    "Models, prediction and export": ["ssl/pixelglobal/evaluation", "ssl/pixelglobal/exports"],
    "Rows and tables": ["ssl/pixelglobal/tables", "ssl/pixelglobal/statistics", "ssl/pixelglobal/api"],
    "Studies and reports": ["experiments"],
}
AT_THE_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_config(config: Any) -> Any:
    """mkdocs calls this first: the order of the pages; new files of a folder are found by themselves."""

    def folder(name: str, *more: str) -> list[str]:
        return sorted([*(f"{name}/{path.name}" for path in (ROOT / "docs" / name).glob("*.md")), *more])

    config.nav = [
        {"Start": "index.md"},
        {"Tutorial": folder("tutorial")},
        {"How to": folder("how-to")},
        {"Reference": folder("reference", "reference/settings.md", "reference/commands.md", "reference/errors.md")},
        {"Explanation": ["method.md", *folder("explanation"), "architecture.md"]},
        {"Project": ["changelog.md", "contributing.md", "LOG.md"]},
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """mkdocs calls this before it reads the pages."""
    pages = {
        "reference/settings.md": settings_page(),
        "reference/commands.md": commands_page(),
        "reference/errors.md": errors_page(),
    }
    pages |= {page: _from_root((ROOT / source).read_text()) for page, source in AT_THE_ROOT.items()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files that are not pages lead to nothing on the site: their text stays."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!\w+/[\w-]+\.md)[^)]*\)", r"\1", markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Nothing is fetched from elsewhere, so that pages opened from disk can be searched without a network."""
    to_the_top = "../" * page.url.count("/")
    return output.replace("https://unpkg.com/iframe-worker/shim", f"{to_the_top}assets/iframe-worker.js")


def _from_root(text: str) -> str:
    """A page of the root folder with links as they are inside docs/."""
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?://|#|[\w/-]+\.md)[^)]*\)", r"\1", text)


def settings_page() -> str:
    """Every setting with its default, its values in the presets and the comment beside it."""
    parts = [
        "# Settings",
        "Write any of them behind a command, as `pretrain.batch_size=4`. Quotations are of the paper. The columns "
        f"{', '.join(PRESETS)} show what a preset changes; the default is that of the class.",
    ]
    for name, section in _sections():
        parts += [f"## {name}", inspect.cleandoc(section.__doc__ or "")]
        rows = []
        for field, default, note in _settings_of(section):
            of_presets = [_preset_value(preset, name, section, field) for preset in PRESETS]
            rows.append([f"`{name}.{field}`", _code(default), *of_presets, note])
        parts.append(_table(["setting", "default", *PRESETS, "what it is"], rows))
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Every command of both programs with its options, as `--help` says them."""
    parts = ["# Commands", "The same text is printed by `--help` behind each command."]
    for program, group in (("pixelglobal", cli.app), ("python -m experiments", experiments_app)):
        for words, command in _commands(get_command(group), program):
            parts += [f"## {words}", inspect.cleandoc(command.help or "")]
            if rows := [_option(parameter) for parameter in command.params if parameter.name != "help"]:
                parts.append(_table(["argument or option", "default", "what it is"], rows))
    return "\n\n".join(parts) + "\n"


def errors_page() -> str:
    """Every message that tells a user what is wrong with a file or setting, by the part of the program."""
    parts = [
        "# Errors",
        "Each message names the file or setting, what was seen, what was expected and what to do. Search this page for "
        "the words of yours; … stands for what differs from case to case. A failed stage of a study keeps its message "
        "in `error.txt`; the same command tries it again.",
    ]
    for heading, modules in ERRORS.items():
        found = dict.fromkeys(message for name in modules for message in _messages(ROOT / name))
        parts += [f"## {heading}", "\n".join(f"- {html.escape(message)}" for message in found)]
    return "\n\n".join(parts) + "\n"


def _messages(folder: Path) -> Iterator[str]:
    """What the modules of a folder raise as ValueError, with … for its values."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            words = node.exc.args[0]
            values = words.values if isinstance(words, ast.JoinedStr) else [words]
            text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in values if _is_text(part))
            if len(text) >= SHORTEST_MESSAGE:  # shorter ones are for programmers
                yield text


def _is_text(part: ast.expr) -> bool:
    return isinstance(part, ast.FormattedValue) or (isinstance(part, ast.Constant) and isinstance(part.value, str))


def _sections() -> Iterator[tuple[str, type[Section]]]:
    for name, field in Config.model_fields.items():
        if isinstance(field.default, Section):
            yield name, type(field.default)
    for name in METHODS:
        yield name, method_class(name).Settings


def _settings_of(section: type[Section]) -> list[tuple[str, Any, str]]:
    """(name, default, comment) of each setting, also of those that the class inherits."""
    notes: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        if issubclass(owner, Section) and owner is not Section:
            notes |= _comments(inspect.getsource(owner))
    fields = section.model_fields.items()
    return [(name, field.get_default(call_default_factory=True), notes.get(name, "")) for name, field in fields]


def _comments(source: str) -> dict[str, str]:
    """The comment behind each annotated name of a class, and what goes on in lines of comments below it.

    >>> _comments("class A:\\n    b: int = 1  # how many\\n    # apples\\n    c: int = 2\\n")
    {'b': 'how many apples'}
    """
    found: dict[str, str] = {}
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc("\n" + source)).readline):
        field = re.match(r"\s*(\w+)\s*:", token.line)
        name = field[1] if field else name if token.line.lstrip().startswith("#") else ""
        if token.type == tokenize.COMMENT and name:
            found[name] = f"{found.get(name, '')} {token.string.lstrip('# ')}".strip()
    return found


def _preset_value(preset: str, name: str, section: type[Section], field: str) -> str:
    values = section.presets.get(preset, {}) if section.presets else PRESETS[preset].get(name, {})
    return _code(values[field]) if field in values else ""


def _commands(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield words, command
    for name, sub in inner.items():
        yield from _commands(sub, f"{words} {name}")


def _option(parameter: click.Parameter) -> list[str]:
    is_option = parameter.opts[0].startswith("-")
    names = " ".join(f"`{word}`" for word in (parameter.opts if is_option else [str(parameter.name).upper()]))
    default = "required" if parameter.required else "" if parameter.default is None else _code(parameter.default)
    return [names, default, getattr(parameter, "help", None) or ""]


def _code(value: Any) -> str:
    return f"`{value}`" if not callable(value) else ""


def _table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *map(line, rows)])
