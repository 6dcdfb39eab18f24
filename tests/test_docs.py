"""What the documents and the help texts say is so: tables come from rows, and everything that they name exists."""

import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from experiments.__main__ import app as experiments_app
from experiments.report.generated_tables import PRINTED, with_table
from experiments.studies import STUDIES
from pixelglobal import cli
from pixelglobal.config.registry import METHODS, method_class
from pixelglobal.config.schema import Config
from pixelglobal.config.section import Section

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "docs" / "LOG.md"  # history: its entries use the names of their day
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))
PRESENT = [path for path in DOCUMENTS if path != LOG]
PROGRAMS = {"pixelglobal": get_command(cli.app), "python -m experiments": get_command(experiments_app)}
# Pages that docs/generate.py makes when the site is built.
MADE = {
    ROOT / "docs" / name
    for name in ("reference/settings.md", "reference/commands.md", "contributing.md", "changelog.md")
}
OF_PAGES = re.findall(r'^    name="(\w+)"', (ROOT / "docs/how-to/add-a-study.md").read_text(), re.M)  # a reader's study
ENDINGS = "py md csv json svg toml yaml txt lock"


@cache
def sections():
    """{section: its settings}, of the config and of every method of the library."""
    defaults = {name: field.default for name, field in Config.model_fields.items()}
    of_config = {name: type(value) for name, value in defaults.items() if isinstance(value, Section)}
    of_methods = {name: method_class(name).Settings for name in METHODS}
    return {name: frozenset(section.model_fields) for name, section in (of_config | of_methods).items()}


@cache
def file_names():
    return {path.name for folder in ("ssl", "experiments", "tests", "docs") for path in (ROOT / folder).rglob("*.*")}


def help_texts():
    """{command: what its --help says}, of both programs."""
    for program, group in PROGRAMS.items():
        for words, command in commands_of(group):
            options = [getattr(parameter, "help", None) or "" for parameter in command.params]
            yield " ".join([program, *words]), "\n".join([command.help or "", *options])


def commands_of(command, words=()):
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands_of(inner, (*words, name))


TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PRESENT} | dict(help_texts())
TEXTS = [pytest.param(text, id=name) for name, text in TEXTS.items()]


def code_of(text):
    """Code blocks, without their comments, and code spans; a line that ends in a backslash goes on."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) + re.findall(r"^(?: {4}.*\n)+", text, re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    spans = re.findall(r"`([^`]+)`", without_blocks)
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines] + [" ".join(span.split()) for span in spans]


@pytest.mark.parametrize("mark", PRINTED)
def test_tables_in_documents_are_printed_from_results(mark):
    path, table = PRINTED[mark]
    text = path.read_text()
    assert text == with_table(text, mark, table()), "run: python -m experiments.report.generated_tables"
    assert text.count("| --- |") >= 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
        place = (document.parent / target).resolve()
        assert place.exists() or place in MADE, f"{document.name} links to {target}"


@pytest.mark.parametrize("text", TEXTS)
def test_settings_exist(text):
    of_the_reader = {found.partition(".")[0] for found in re.findall(r"pretrain\.method=([\w.]+):", text)}
    for section, name in re.findall(r"(?<![\w./])([a-z_]+)\.(\w+)=", text):
        if section not in of_the_reader and (section, name) != ("section", "name"):
            assert section in sections(), f"{section}.{name}: there is no section {section}"
            assert name in sections()[section], f"there is no setting {section}.{name}"


@pytest.mark.parametrize("text", TEXTS)
def test_settings_and_modules_in_code_spans_exist(text):
    for code in code_of(text):
        for word in re.findall(r"^[a-z_]+(?:\.\w+)+$", code):
            section, name, *_ = word.split(".")
            if (ROOT / word).is_file():
                continue
            if section == "pixelglobal" or (section in sections() and name not in sections()[section]):
                assert resolves(word if section == "pixelglobal" else f"pixelglobal.{word}"), word


def resolves(name):
    """Whether a dotted name is a module of the library or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
        return True
    except ImportError:
        return bool(module) and hasattr(import_module(module), attribute)


@pytest.mark.parametrize("text", TEXTS)
def test_commands_and_their_options_exist(text):
    for code in code_of(text):
        for program, group in PROGRAMS.items():
            if found := re.search(rf"(?:^|[&;] |-- ){re.escape(program)}(?= |$)(.*)", code):
                assert problem_with(group, found.group(1)) == "", code


def test_there_are_commands_to_check():
    codes = [code for text in TEXTS for code in code_of(text.values[0])]
    for program, least in (("pixelglobal", 10), ("python -m experiments", 10)):
        assert sum(re.search(rf"(?:^|[&;] |-- ){re.escape(program)} ", code) is not None for code in codes) >= least


@pytest.mark.parametrize(("words", "problem"), [
    ("prepare SCANS STORE --layout msd", ""),
    ("prepair SCANS STORE", "there is no command ['prepair']"),
    ("prepare SCANS --layuot msd", "there is no option --layuot"),
])  # fmt: skip
def test_what_is_no_command_or_option_is_seen(words, problem):
    assert problem_with(PROGRAMS["pixelglobal"], words) == problem
    assert problem_with(PROGRAMS["python -m experiments"], "run nothing --store S") == "there is no study nothing"


def problem_with(command, words):
    """Which word of a command line, up to its arguments, is no command, or which option is none of the last command."""
    words = [word for word in shlex.split(words) if word not in ("...", "&", "|")]
    while hasattr(command, "commands") and words and words[0].islower() and words[0][0] != "-":
        names = words.pop(0).split("|")
        if not set(names) <= set(command.commands):
            return f"there is no command {names}"
        command = command.commands[names[0]]
    of_study = any(p.name == "study" and p.param_type_name == "argument" for p in command.params)
    studies = {*STUDIES, *OF_PAGES, "all", "name", "study", "study|all"}
    if of_study and words and not words[0].startswith("-") and words[0].lower() not in studies:
        return f"there is no study {words[0]}"
    known = {name for parameter in command.params for name in parameter.opts} | {"--help", "--install-completion"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"there is no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("text", TEXTS)
def test_targets_of_make_exist(text):
    targets = set(re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M))
    targets = {name for line in targets for name in line.split()}
    for code in code_of(text):
        if code.startswith("make "):
            named = {word for word in code.split()[1:] if "=" not in word}
            assert named <= targets, f"`{code}`: the Makefile has no {named - targets}"


@pytest.mark.parametrize("text", TEXTS)
def test_named_files_exist(text):
    saved_by_the_reader = set(re.findall(r"Save this as\s+`([\w.]+)`", text))
    for code in code_of(text):
        for name in re.findall(rf"^[\w./-]+\.(?:{ENDINGS.replace(' ', '|')})$", code):
            if "/" in name and not name.startswith(("OUT/", "demo/")):
                places = (ROOT, ROOT / "ssl" / "pixelglobal", ROOT / "experiments")
                assert any((place / name).exists() for place in places), f"there is no {name}"
            elif name.endswith((".py", ".md")) and name not in saved_by_the_reader:
                assert name in file_names() or (ROOT / name).exists(), f"there is no {name}"


def test_every_row_of_the_table_of_faults_names_a_test_that_exists():
    text = (ROOT / "docs/explanation/faults.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(tests/[\w/]+\.py)`: `(\w+)`", row.split("|")[3]) for row in rows]
    assert all(tests or "no test" in row for tests, row in zip(named, rows, strict=True))
    for path, word in (pair for tests in named for pair in tests):
        assert re.search(rf"def test\w*{word}", (ROOT / path).read_text()), f"no test of {path} is named {word}"
