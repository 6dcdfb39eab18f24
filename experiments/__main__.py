"""`python -m experiments plan|run|status|report STUDY|all`: the studies, from the checkout; `browse`: their pages;
`bench NAME`: what things cost; `score` and `significance`: for predictions and rows that were made elsewhere.

The same command again continues: finished stages cost nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.bench.commands import app as bench
from experiments.report.browse import reports_of, server_of, tensorboard_command
from experiments.report.collect import failures, finished
from experiments.report.study_report import report_study
from experiments.runner.plan import make_plan, show_plan
from experiments.runner.progress import counts, overview, shown
from experiments.runner.publish import publish
from experiments.runner.stages import check_writable
from experiments.runner.tune import run_grid
from experiments.studies.options import STUDIES, Asked, takes_a_study
from pixelglobal.cluster.resources import start_ray, trials_at_once
from pixelglobal.scoring_commands import score, significance
from pixelglobal.tables.terminal import for_terminal

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(bench, name="bench")
app.command()(score)
app.command()(significance)
console = Console()


@app.command()
@takes_a_study
def plan(
    asked: Asked,
    price_per_hour: Annotated[float | None, typer.Option(help="of a GPU, or of a CPU core without one")] = None,
    calibrate: Annotated[bool, typer.Option(help="measure a few steps of work that never ran here")] = True,
) -> None:
    """Print what a study will compute, what is there already, and what the rest costs; trains nothing."""
    check_writable(asked.out)
    console.print("measuring a few steps of what never ran here ..." if calibrate else "", style="dim")
    made = make_plan(asked.all_chains, asked.out, calibrate=calibrate)
    made.save(asked.out / "plans" / f"{asked.study}.json")
    show_plan(made, console, price_per_hour)


@app.command()
@takes_a_study
def run(asked: Asked) -> None:
    """Run what is missing of a study, then write its report."""
    check_writable(asked.out)
    chains, cluster = asked.all_chains, asked.config.cluster
    if not all(chain.evaluate.is_complete for chain in chains):
        at_once = trials_at_once(asked.config, cluster.finetune_workers, start_ray())
        with shown(chains, console, at_once):
            run_grid([chain.cell for chain in chains], asked.out)
    _write_reports(asked)
    if any(not chain.evaluate.is_complete for chain in chains):
        raise typer.Exit(1)


@app.command()
@takes_a_study
def status(
    asked: Asked,
    watch: Annotated[bool, typer.Option(help="look again every 5 seconds until all is done or failed")] = False,
) -> None:
    """Print what every cell of a study is doing, the best so far, how long is left, and why cells failed."""
    chains = asked.all_chains
    while True:
        if watch:
            console.clear()
        console.print(overview(chains))
        console.print(counts(chains), highlight=False)
        if not watch or all(chain.evaluate.is_complete or chain.error() for chain in chains):
            break
        time.sleep(5)
    for chain in chains:
        if (error := chain.error()) is not None:
            console.print(f"{chain.cell.name} failed:", style="bold red", highlight=False)
            console.print(error, style="red", highlight=False, markup=False)


@app.command()
@takes_a_study
def report(asked: Asked) -> None:
    """Write the report of a study from what is finished."""
    check_writable(asked.out)
    _write_reports(asked)


@app.command()
def browse(
    out: Annotated[Path, typer.Option(help="of the studies to show")] = Path("runs"),
    port: Annotated[int, typer.Option(help="of 127.0.0.1; 0 takes a free one")] = 8100,
) -> None:
    """Serve the reports of a folder to this machine's browser, and say how to see the trials in TensorBoard."""
    if not reports_of(out):
        raise ValueError(f"no study in {out.resolve()} has a report yet: run one, or give another --out")
    server = server_of(out, port)
    console.print(f"http://127.0.0.1:{server.server_port}/ shows {', '.join(p.parent.name for p in reports_of(out))}")
    console.print(f"{tensorboard_command(out)}    shows the trials; Ctrl-C ends this", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def _write_reports(asked: Asked) -> None:
    publish(asked.all_chains, asked.out)
    for study, chains in asked.chains.items():
        for note in failures(chains):
            console.print(note, style="red", markup=False)
        if len(asked.chains) > 1 and not finished(chains):
            continue  # of several studies some have results
        made = report_study(STUDIES[study], chains, asked.out / study)
        for table in made.tables:
            console.print(for_terminal(table, console.width))
        console.print(f"Report: {made.page.resolve()}", soft_wrap=True, highlight=False)


def main() -> None:
    """The command line; a ValueError is a message for the user, not a traceback."""
    try:
        app(prog_name="python -m experiments")
    except ValueError as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
