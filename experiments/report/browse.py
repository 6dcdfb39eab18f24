"""`python -m experiments browse --out OUT`: the reports of a folder in this machine's browser."""

from __future__ import annotations

import html
import shlex
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd

from pixelglobal.files import read_json_object

SHOWN = {".html", ".svg", ".png", ".pdf", ".csv", ".md", ".tex"}  # of OUT/STUDY; weights, scans and rows are not served


def reports_of(out: Path) -> list[Path]:
    """The pages of the studies that have one, by name."""
    return sorted(out.glob("*/report.html"))


def tensorboard_command(out: Path) -> str:
    """What shows the trials of all studies in TensorBoard."""
    return f"tensorboard --logdir {shlex.quote(str(out / 'tune'))}"


def index_page(out: Path) -> str:
    """A page that lists studies, with links to their reports, and the runs that have finished."""
    items = "".join(
        f'<li><a href="{html.escape(page.parent.name)}/report.html">{html.escape(page.parent.name)}</a>'
        f"{html.escape(_verdicts(page.parent))}</li>"
        for page in reports_of(out)
    )
    runs = out / "runs.parquet"
    shown = pd.read_parquet(runs).drop(columns="config") if runs.is_file() else pd.DataFrame()
    table = shown.to_html(index=False, border=0, na_rep="") if len(shown) else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">'
        f"<title>Studies in {html.escape(str(out))}</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}"
        "td,th{padding:.2rem .6rem;text-align:left;border-top:1px solid #ddd}table{border-collapse:collapse;"
        "font-size:.85rem}</style>"
        f"<h1>Studies</h1><ul>{items or '<li>no study has a report yet</li>'}</ul>"
        f"<p>Trials in TensorBoard: <code>{html.escape(tensorboard_command(out))}</code></p>"
        f"<h2>Runs</h2>{table}</html>"
    )


def _verdicts(folder: Path) -> str:
    """The state of each cohort's verdict, as words behind the study's name."""
    path = folder / "verdict.json"
    if not path.is_file():
        return ""
    cohorts = read_json_object(path)["cohorts"]
    return ": " + ", ".join(f"{verdict['state']} on {cohort}" for cohort, verdict in cohorts.items())


class Handler(SimpleHTTPRequestHandler):
    """Serves the index and the files of reports; everything else of the folder stays unseen."""

    def do_GET(self) -> None:
        """The index, or a file of a report."""
        root = Path(self.directory).resolve()
        if self.path in ("/", "/index.html"):
            body = index_page(root).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        try:
            asked = Path(self.translate_path(self.path)).resolve()
        except ValueError:  # no name of a file
            asked = Path("/")
        parts = asked.relative_to(root).parts if asked.is_relative_to(root) else ()
        if len(parts) < 2 or parts[0] in ("stages", "tune", "rows", "plans") or asked.suffix not in SHOWN:
            self.send_error(HTTPStatus.NOT_FOUND, "only reports are served")
            return
        super().do_GET()

    def do_HEAD(self) -> None:
        """Nobody needs it."""
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a browser's requests are of no interest."""


def server_of(out: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1, seen from this machine alone; port 0 takes a free one. ValueError if the port is taken."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(out.resolve())))
    except OSError as error:
        raise ValueError(f"cannot serve on port {port} ({error}): give another --port, or 0 for a free one") from None
