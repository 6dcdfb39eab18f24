"""Run the studies from a checkout: plan, register, run, status and report take the name of a study, or all.

`browse` shows the reports, `bench` measures costs, and `demo` runs everything on a synthetic cohort. The same command
again continues where it stopped: what is finished is not computed again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments import FOLDER
from experiments.bench.commands import app as bench
from experiments.report.browse import reports_of, server_of, tensorboard_command
from experiments.report.collect import failures, finished
from experiments.report.sample_size import sample_size_sentences
from experiments.report.study_report import report_study
from experiments.runner import registration
from experiments.runner.plan import make_plan, show_plan
from experiments.runner.progress import counts, overview, shown
from experiments.runner.results import publish, refuse_other_versions
from experiments.runner.run_list import read_run_lists, write_run_list
from experiments.runner.stages import check_writable
from experiments.runner.tune import run_all
from experiments.selection import Overrides, Request, Selection, of_a_study, refuse_leakage, select
from pixelglobal.cluster.resources import start_ray, trials_at_once
from pixelglobal.config.overrides import resolve
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.tables.terminal import for_terminal

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.add_typer(bench, name="bench")
console = Console()

RUNS = Path("runs")


@app.command()
@of_a_study
def plan(
    request: Request,
    price_per_hour: Annotated[
        float | None, typer.Option(help="The price of a GPU for an hour, or of a CPU core without one.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option(help="Measure a few steps of trainings that were never run on this machine.")
    ] = True,
    gain: Annotated[float, typer.Option(help="The gain in DSC points that the study should be able to show.")] = 2.0,
) -> None:
    """Print what a study will compute, what is finished, and what the rest will cost, without training anything."""
    selection = _selected(request)
    refuse_leakage(selection)
    for one in selection.studies:
        console.print(f"{one.title}. {one.question} {one.cost}", soft_wrap=True, highlight=False, markup=False)
    console.print("measuring a few steps of trainings that were never run here ..." if calibrate else "", style="dim")
    made = make_plan(selection.all_pipelines, request.out, calibrate=calibrate)
    made.save(request.out / "plans" / f"{request.study}.json")
    show_plan(made, console, price_per_hour)
    for one in selection.studies:
        for sentence in sample_size_sentences(one, selection.pipelines[one.name], gain):
            console.print(f"{one.title}. {sentence}", soft_wrap=True, highlight=False, markup=False)


@app.command()
@of_a_study
def register(request: Request) -> None:
    """Fix what a study will compare and what will decide, before anything is trained.

    The report then says whether the study was done as registered.
    """
    selection = _selected(request)
    refuse_leakage(selection)
    for one in selection.studies:
        path = registration.register(one, selection.pipelines[one.name], request.out)
        console.print(f"{one.title}. {one.criterion}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"registered in {path.resolve()}", soft_wrap=True, highlight=False)


@app.command()
@of_a_study
def run(request: Request) -> None:
    """Run what is not finished of a study, then write its report and print its verdict."""
    selection = _selected(request)
    pipelines, config = selection.all_pipelines, selection.config
    for one in selection.studies:
        write_run_list(one, selection.pipelines[one.name], request.out)
    if not all(pipeline.evaluate.is_complete for pipeline in pipelines):
        refuse_leakage(selection)
        at_once = trials_at_once(config, config.cluster.finetune_workers, start_ray([FOLDER]))
        with shown(pipelines, console, at_once):
            run_all([pipeline.run for pipeline in pipelines], request.out)
    _write_reports(selection)
    if any(not pipeline.evaluate.is_complete for pipeline in pipelines):
        raise typer.Exit(1)


@app.command()
@of_a_study
def status(
    request: Request,
    watch: Annotated[bool, typer.Option(help="Look again every 5 seconds until all is done or failed.")] = False,
) -> None:
    """Print what each run of a study is doing, the best score so far, the time left, and why runs failed."""
    pipelines = _selected(request, to_write=False).all_pipelines
    while True:
        if watch:
            console.clear()
        console.print(overview(pipelines))
        console.print(counts(pipelines), highlight=False)
        if not watch or all(pipeline.evaluate.is_complete or pipeline.error() for pipeline in pipelines):
            break
        time.sleep(5)
    for pipeline in pipelines:
        if (error := pipeline.error()) is not None:
            console.print(f"{pipeline.run.name} failed:", style="bold red", highlight=False)
            console.print(error, style="red", highlight=False, markup=False)


@app.command()
@of_a_study
def report(request: Request) -> None:
    """Write the report of a study from the runs that are finished, and print its verdict."""
    _write_reports(_selected(request))


@app.command()
def browse(
    out: Annotated[Path, typer.Option(help="The folder of the studies to show.")] = RUNS,
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 takes a free one.")] = 8100,
) -> None:
    """Show the studies and runs of a folder in the browser of this machine, live, and the command for TensorBoard."""
    studies = dict.fromkeys([*(page.parent.name for page in reports_of(out)), *read_run_lists(out)])
    if not studies:
        raise ValueError(f"no study in {out.resolve()} has runs or a report yet: run one, or give another --out")
    server = server_of(out, port)
    console.print(f"http://127.0.0.1:{server.server_port}/ shows {', '.join(studies)}", soft_wrap=True)
    console.print(f"{tensorboard_command(out)}    shows the trials; Ctrl-C ends this", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder of everything that the demo makes.")] = Path("demo"),
    overrides: Overrides = None,
) -> None:
    """Run everything on a synthetic cohort: scans, slices, pre-training, fine-tuning, evaluation and report."""
    cohort = make_phantom_cohort(out / "phantom")
    console.print(f"a synthetic CT cohort is in {cohort}", highlight=False)
    prepared = prepare(cohort, out / "store", resolve("smoke", ["prepare.keep_ids=true", *(overrides or ())]).prepare)
    console.print(f"{len(prepared.store.cases)} scans prepared in {prepared.store.root}", highlight=False)
    run("comparison", overrides, [prepared.store.root], out / "runs", preset="smoke", seeds="0,1")


def _selected(request: Request, *, to_write: bool = True) -> Selection:
    """The runs that are asked for, in a folder that this version can read and, if need be, write to."""
    selection = select(request)
    if to_write:
        check_writable(request.out)
    refuse_other_versions(request.out)
    return selection


def _write_reports(selection: Selection) -> None:
    publish(selection.all_pipelines, selection.out)
    for study in selection.studies:
        pipelines = selection.pipelines[study.name]
        if len(selection.pipelines) > 1 and not finished(pipelines):  # of several studies some have results
            for note in failures(pipelines):
                console.print(note, style="red", markup=False, soft_wrap=True)
            continue
        made = report_study(study, pipelines, selection.out / study.name)
        for warning in made.warnings:
            console.print(warning, style="bold red", markup=False, soft_wrap=True)
        for cohort, verdict in made.verdicts.items():
            console.print(f"{study.title} on {cohort}. {verdict}", style="bold", markup=False, soft_wrap=True)
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
