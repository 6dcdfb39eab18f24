"""`pixelglobal VERB ... section.name=value`: the stages one by one, the demo, the doctor.

Every verb can be given again: a finished case or epoch is not computed twice. Whole studies are run with
`python -m experiments` from the checkout.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn, track

from pixelglobal import config as settings
from pixelglobal import doctor as machine
from pixelglobal.cluster.map import map_on_ray
from pixelglobal.cluster.train import run_finetune, run_pretrain
from pixelglobal.data.phantom import make_phantom_cohort
from pixelglobal.data.prepare import prepare as prepare_cohort
from pixelglobal.data.store import Store
from pixelglobal.devices import default_device
from pixelglobal.evaluation.evaluate import evaluate as evaluate_cases
from pixelglobal.evaluation.uncertainty_maps import write_uncertainty
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.labelled import choose_patients

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()

Settings = Annotated[list[str] | None, typer.Argument(help="section.name=value, for example pretrain.batch_size=4")]
Preset = Annotated[str, typer.Option("--preset", help="smoke, small or paper")]
StoreFolder = Annotated[Path, typer.Option("--store", help="a cohort made by `pixelglobal prepare`")]
Out = Annotated[Path, typer.Option("--out", help="the run's folder; the same command again continues in it")]


@app.command()
def prepare(
    cohort: Annotated[Path, typer.Argument(help="MSD or nnU-Net folder, or a folder of NIfTI scans")],
    store: Annotated[Path, typer.Argument(help="where the slices go")],
    overrides: Settings = None,
    preset: Preset = "paper",
    on_ray: Annotated[bool, typer.Option("--on-ray", help="spread the scans over a Ray cluster")] = False,
) -> None:
    """Read, check and clip scans, and write their slices; one bad scan spoils only itself."""
    config = settings.resolve(preset, overrides or [])
    _start_ray_for(int(on_ray))
    with Progress(*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("preparing scans", total=None)
        made = prepare_cohort(
            cohort,
            store,
            config.prepare,
            map_cases=map_on_ray if on_ray else map,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for case, reason in made.rejects.items():
        console.print(f"left out {case}: {reason}", style="yellow", markup=False, soft_wrap=True)
    splits = {name: len(cases) for name, cases in vars(made.store.splits).items()}
    console.print(f"{len(made.store.cases)} scans in {store}, splits {splits}", highlight=False)
    if made.store.structures:
        meaning = made.store.absent_structures.replace("_", " ")
        console.print(f"a structure without a voxel in a scan counts as {meaning} (prepare.absent_structures)")


@app.command()
def pretrain(
    store: StoreFolder,
    out: Out,
    overrides: Settings = None,
    preset: Preset = "paper",
    variant: Annotated[str | None, typer.Option(help="go, gp, gpc or full: the rows of the ablation")] = None,
) -> None:
    """Pre-train without labels on the store's pre-training split."""
    config = settings.resolve(preset, overrides or [])
    config = settings.variant(config, variant) if variant else config
    opened = Store.open(store)
    _claim(out, config)
    _start_ray_for(config.cluster.pretrain_workers)
    model = run_pretrain(config, opened.root, out)
    console.print(f"model: {model}", highlight=False)


@app.command()
def finetune(
    store: StoreFolder,
    out: Out,
    overrides: Settings = None,
    preset: Preset = "paper",
    pretrained: Annotated[Path | None, typer.Option(help="a model folder of `pretrain`; none: random weights")] = None,
) -> None:
    """Fine-tune on the store's training split, from a pre-trained model or from random weights."""
    config = settings.resolve(preset, overrides or [])
    opened = Store.open(store)
    if pretrained is not None:
        read_model(pretrained)  # a wrong folder is better named now than after the data are read
    _claim(out, config)
    _start_ray_for(config.cluster.finetune_workers)
    model = run_finetune(
        config,
        opened.root,
        out,
        pretrained=pretrained,
        train_cases=choose_patients(opened, config.finetune.patients, config.seed),
        validation_cases=opened.splits.validation,
    )
    facts = read_model(model)[1]
    console.print(
        f"{facts['transfer']}; best validation Dice {facts['best_dice']:.4f}; model: {model}", highlight=False
    )


@app.command()
def evaluate(
    store: StoreFolder,
    model: Annotated[Path, typer.Option("--model", help="a model folder of `finetune`")],
    out: Out,
    overrides: Settings = None,
    preset: Preset = "paper",
    method: Annotated[str, typer.Option("--method", help="the name of the method in the rows")] = "model",
) -> None:
    """Segment the held-out patients, save the labels as NIfTI, and write the rows that statistics read."""
    config = settings.resolve(preset, overrides or [])
    opened = Store.open(store)
    out.mkdir(parents=True, exist_ok=True)
    cases = getattr(opened.splits, config.evaluate.split)
    with Progress(console=console) as bar:
        task = bar.add_task("evaluating", total=len(cases))
        rows = evaluate_cases(
            config,
            opened,
            model,
            out,
            default_device(),
            cases=cases,
            columns={"method": method, "seed": read_model(model)[1]["seed"]},
            progress=lambda done, _total: bar.update(task, completed=done),
        )
    console.print(f"rows: {rows}", highlight=False)


@app.command()
def uncertainty(
    store: StoreFolder,
    model: Annotated[Path, typer.Option("--model", help="a model folder of `pretrain`, trained with pixels")],
    out: Out,
    cases: Annotated[str | None, typer.Option("--cases", help="names with commas; none: the test split")] = None,
) -> None:
    """Write maps of the pre-trained teacher's uncertainty as NIfTI, on the grids of the original scans."""
    opened = Store.open(store)
    chosen = cases.split(",") if cases else opened.splits.test
    for case in track(chosen, "uncertainty", console=console):
        write_uncertainty(model, opened, case, out, default_device())
    console.print(f"{len(chosen)} maps in {out}", highlight=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="everything the demo makes")] = Path("demo"),
    overrides: Settings = None,
) -> None:
    """The whole way on a synthetic cohort: scans, slices, pre-training, fine-tuning, evaluation, report."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "experiments" / "__main__.py").is_file():
        raise ValueError("the demo runs the studies, which live in the checkout: clone it and run `make demo` there")
    cohort = make_phantom_cohort(out / "phantom")
    console.print(f"a synthetic CT cohort is in {cohort}", highlight=False)
    config = settings.resolve("smoke", overrides or [])
    prepared = prepare_cohort(cohort, out / "store", config.prepare)
    console.print(f"{len(prepared.store.cases)} scans prepared in {out / 'store'}", highlight=False)
    command = [sys.executable, "-m", "experiments", "run", "comparison", *(overrides or []), "--preset", "smoke"]
    command += ["--seeds", "0,1", "--store", str((out / "store").resolve()), "--out", str((out / "runs").resolve())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "ssl"), str(root)])}
    raise typer.Exit(subprocess.run(command, cwd=root, env=environment, check=False).returncode)


@app.command()
def doctor() -> None:
    """Print versions, devices, memory and disk, and what is known not to work."""
    for name, value in machine.facts(Path.cwd()).items():
        console.print(f"{name:12} {value}", highlight=False, soft_wrap=True)
    found = machine.problems()
    for problem in found:
        console.print(f"problem: {problem}", style="bold red", markup=False, soft_wrap=True)
    if found:
        raise typer.Exit(1)
    console.print("no known problem", style="green")


def _claim(out: Path, config: settings.Config) -> None:
    """Take a new or empty folder, or one where the same settings began; refuse any other."""
    mark = out / "config.json"
    if mark.is_file():
        before, now = settings.load(mark).model_dump(mode="json"), config.model_dump(mode="json")
        different = [
            f"{section}.{name}={before[section].get(name)!r} there, {value!r} now"
            for section, values in now.items()
            if isinstance(values, dict) and section != "cluster"
            for name, value in values.items()
            if before[section].get(name) != value
            and not (section == "pretrain" and name in settings.PRETRAIN_WITHOUT_EFFECT)
        ]
        if before["seed"] != config.seed:
            different.append(f"seed={before['seed']} there, {config.seed} now")
        if different:
            raise ValueError(
                f"{out} holds a run with other settings ({'; '.join(different)}); choose another --out, or give the "
                "same settings to continue it"
            )
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} exists and is no run of this program; choose an empty or a new folder")
    out.mkdir(parents=True, exist_ok=True)
    settings.save(config, mark)


def _start_ray_for(workers: int) -> None:
    if workers > 0 and not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        place: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"address": "local"}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **place)


def main() -> None:
    """The command line; a ValueError is a message for the user, not a traceback."""
    try:
        app(prog_name="pixelglobal")
    except ValueError as error:
        console.print(str(error), style="bold red", markup=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
