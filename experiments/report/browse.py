"""`python -m experiments browse --out OUT`: studies and their runs in this machine's browser, while they run and after.

/                 the board: studies with verdicts, runs with their state, curves, logs and settings
/board.json       what the board shows, read anew from the folders each time
/run.json?name=   one run: its curves, the end of its logs, its settings
/STUDY/...        the reports and their files
"""

from __future__ import annotations

import json
import shlex
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from experiments.report.curves import FINETUNING, PRETRAINING, curves_data
from experiments.report.figures import Curve
from experiments.report.palette import DARK, LIGHT, looks
from experiments.runner.run_list import ListedRun, read_run_lists
from pixelglobal.files import html_template, read_json_object
from pixelglobal.training.runs import read_metrics

SHOWN = {".html", ".svg", ".png", ".pdf", ".csv", ".md", ".tex"}  # of OUT/STUDY; weights, scans and rows are not served
TEMPLATES = Path(__file__).parent / "templates"
LOG_LINES = 12


def reports_of(out: Path) -> list[Path]:
    """The pages of the studies that have one, by name."""
    return sorted(out.glob("*/report.html"))


def tensorboard_command(out: Path) -> str:
    """What shows the trials of all studies in TensorBoard."""
    return f"tensorboard --logdir {shlex.quote(str(out / 'tune'))}"


def board_of(out: Path) -> dict[str, Any]:
    """All studies and runs of a folder as the board shows them."""
    lists = read_run_lists(out)
    names = dict.fromkeys([*(page.parent.name for page in reports_of(out)), *lists])
    studies, runs = [], []
    for name in names:
        listed = lists.get(name, {"title": name, "runs": []})
        own = [_on_the_board(name, run) for run in listed["runs"]]
        best = max((run for run in own if run["best"] is not None), key=lambda run: run["best"], default=None)
        studies.append(
            {"name": name, "title": listed["title"], "verdicts": _verdicts(out / name),
             "report": f"{name}/report.html" if (out / name / "report.html").is_file() else None,
             "best": None if best is None else {"run": best["name"], "dice": best["best"]},
             "states": {state: sum(run["state"] == state for run in own) for state in
                        ("done", "running", "waiting", "failed")}}
        )  # fmt: skip
        runs += own
    methods = looks(list(dict.fromkeys(run["method"] for run in runs))).values()
    colors = [{**look.to_dict(), "light": LIGHT[look.number], "dark": DARK[look.number]} for look in methods]
    return {"studies": studies, "runs": runs, "looks": colors, "tensorboard": tensorboard_command(out)}


def run_of(out: Path, name: str) -> dict[str, Any] | None:
    """One run with its curves, the end of its logs and its error; None for a name that no list has."""
    found = [run for one in read_run_lists(out).values() for run in one["runs"] if run.facts["name"] == name]
    if not found:
        return None
    run: ListedRun = found[0]
    curves, logs = {}, {}
    for stage in run.stages:
        lines = read_metrics(stage.folder)
        logs[stage.kind] = [
            ", ".join(f"{k}={v}" for k, v in line.items() if k != "time") for line in lines[-LOG_LINES:]
        ]
        panels = {"pretrain": PRETRAINING, "finetune": FINETUNING}.get(stage.kind)
        if panels and lines:
            curves[stage.kind] = curves_data([Curve(run.facts["method"], run.facts["seed"], lines)], panels)["panels"]
    return {**run.facts, "curves": curves, "logs": logs, "error": run.error()}


def _on_the_board(study: str, run: ListedRun) -> dict[str, Any]:
    state, doing, share = run.state()
    best = run.best_dice()
    return {**run.facts, "study": study, "state": state, "doing": doing, "share": round(share, 3),
            "best": None if best is None else round(best, 2)}  # fmt: skip


def _verdicts(folder: Path) -> dict[str, dict[str, str]]:
    """The state and reason of each cohort's verdict."""
    path = folder / "verdict.json"
    if not path.is_file():
        return {}
    cohorts = read_json_object(path)["cohorts"]
    return {cohort: {"state": verdict["state"], "reason": verdict["reason"]} for cohort, verdict in cohorts.items()}


def board_page(out: Path) -> str:
    """The board's page; what it shows it asks for itself, again and again."""
    vendored = (TEMPLATES / "vendor" / "plot.min.js").read_text()
    return html_template(TEMPLATES / "board.html.j2").render(out=str(out), vendored=vendored)


class Handler(SimpleHTTPRequestHandler):
    """Serves the board and the files of reports; everything else of the folder stays unseen."""

    def do_GET(self) -> None:
        """The board, its data, or a file of a report."""
        root, asked = Path(self.directory).resolve(), urlsplit(self.path)
        if asked.path in ("/", "/index.html"):
            return self._answer(board_page(root), "text/html; charset=utf-8")
        if asked.path == "/board.json":
            return self._answer(json.dumps(board_of(root)), "application/json")
        if asked.path == "/run.json":
            run = run_of(root, parse_qs(asked.query).get("name", [""])[0])
            if run is not None:
                return self._answer(json.dumps(run), "application/json")
        try:
            file = Path(self.translate_path(self.path)).resolve()
        except ValueError:  # no name of a file
            file = Path("/")
        parts = file.relative_to(root).parts if file.is_relative_to(root) else ()
        if len(parts) < 2 or parts[0] in ("stages", "tune", "rows", "plans") or file.suffix not in SHOWN:
            return self.send_error(HTTPStatus.NOT_FOUND, "only reports are served")
        return super().do_GET()

    def _answer(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

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
