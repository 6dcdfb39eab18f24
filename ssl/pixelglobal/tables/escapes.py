"""Any name, whatever it contains, as text of Markdown, LaTeX, CSV and terminals.

Names come from files: a structure may be called `|`, `[/]`, `=cmd()` or contain a line break. None of them may break a
table, run as a formula in a spreadsheet or stop LaTeX.
"""

from __future__ import annotations

import re
import unicodedata

LATEX = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
    "|": "$|$", '"': "''", "`": r"\textasciigrave{}",
    "†": r"$\dagger$", "≠": r"$\neq$", "≥": r"$\geq$", "≤": r"$\leq$", "±": r"$\pm$", "×": r"$\times$",
    "µ": r"$\mu$", "°": r"$^\circ$", "·": r"$\cdot$", "–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'",
    "“": "``", "”": "''", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}",
    "Ł": r"\L{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ı": r"\i{}",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
         "xi", "", "pi", "rho", "", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega")  # fmt: skip
LATEX |= {chr(0x3B1 + i): rf"$\{name}$" for i, name in enumerate(GREEK) if name}


def one_line(text: object) -> str:
    """The text without line breaks and control characters, each run of which becomes a space.

    >>> one_line("left\\nkidney\\x1b[31m")
    'left kidney [31m'
    """
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in str(text))
    return re.sub(" {2,}", " ", kept)


def markdown(text: object) -> str:
    """Text of a Markdown cell; a `*` behind a digit is a table's mark and no emphasis, `_` inside a word is itself.

    >>> markdown("a|b *c* Left_Lung 0.004*")
    'a\\\\|b \\\\*c\\\\* Left_Lung 0.004*'
    """
    escaped = re.sub(r"([\\`|<>~])", r"\\\1", one_line(text))
    escaped = re.sub(r"(?<!\d)\*|\*(?=\w)", r"\\*", escaped)
    escaped = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", escaped)
    return re.sub(r"\](?=[(\[:])", r"\\]", escaped)


def latex(text: object) -> str:
    """Text of LaTeX; letters with accents are composed, and a character that pdfLaTeX lacks is named by its code.

    >>> latex("50 % é_≥"), latex("肝")[5:9]
    ("50 \\\\% \\\\'{e}\\\\_$\\\\geq$", '809D')
    """
    escaped = "".join(_latex_character(c) for c in one_line(text))
    return re.sub(r"^( *)\[", r"\1{[}", escaped)  # behind a line's end it would begin an option


def _latex_character(character: str) -> str:
    if character in LATEX:
        return LATEX[character]
    if " " <= character <= "~":
        return character
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in ACCENTS:
        return f"\\{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"[U+{ord(character):04X}]"


def csv_name(name: object) -> str:
    """A name as a CSV cell that no spreadsheet takes for a formula.

    >>> csv_name("=cmd()"), csv_name("kidney")
    ("'=cmd()", 'kidney')
    """
    text = one_line(name)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
