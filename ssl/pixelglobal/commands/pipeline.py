"""`prepare`, `pretrain`, `finetune`, `evaluate` and `uncertainty`: from scans to rows, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from pixelglobal import api
from pixelglobal.api.options import DEFAULT_PRESET

console = Console()
MOST_NOTES = 20

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SECTION.NAME=VALUE",
        show_default=False,
        help="Settings that differ from the preset, for example pretrain.batch_size=4.",
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="The named settings to begin with: smoke takes seconds, small is for a laptop, and paper has every "
        "number of the paper and needs GPUs."
    ),
]
StoreFolder = Annotated[Path, typer.Option(help="The folder that `pixelglobal prepare` has written.")]
RunFolder = Annotated[
    Path, typer.Option(help="The folder of this run. The same command continues an interrupted run in it.")
]


def prepare(
    cohort: Annotated[
        Path, typer.Argument(help="A folder of scans in one of the layouts of docs/reference/layouts.md.")
    ],
    store: Annotated[Path, typer.Argument(help="The folder to which the slices are written.")],
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    layout: Annotated[
        str | None, typer.Option(help="How the folder is laid out, for example msd. Without it, its files decide.")
    ] = None,
    on_ray: Annotated[
        bool, typer.Option("--on-ray", help="Spread the scans over the Ray cluster of RAY_ADDRESS, or over all cores.")
    ] = False,
) -> None:
    """Read, check and clip scans, and write their slices.

    A scan that cannot be read is left out with the reason; the other scans are not affected.
    """
    words = [*(overrides or []), *([f"prepare.layout={layout}"] if layout else [])]
    with _progress("Preparing scans") as progress:
        opened = api.prepare(cohort, store, preset=preset, settings=words, on_ray=on_ray, progress=progress)
    for note in opened.notes[:MOST_NOTES]:
        console.print(f"{note}.", highlight=False)
    if len(opened.notes) > MOST_NOTES:
        console.print(f"{len(opened.notes) - MOST_NOTES} more notes are in {store / 'notes.json'}.", highlight=False)
    splits = opened.splits
    counts = {name: len(getattr(splits, name)) for name in ("pretrain", "train", "validation", "test")}
    console.print(f"{len(opened.cases)} scans in {store}, splits {counts}", highlight=False)
    if opened.structures:
        meaning = opened.absent_structures.replace("_", " ")
        console.print(f"A structure without a voxel in a scan counts as {meaning} (prepare.absent_structures).")
        ceiling = ", ".join(f"{name} {100 * dice:.1f}" for name, dice in opened.dice_ceiling.items())
        console.print(f"The highest DSC (%) that this grid allows, mean over scans: {ceiling}.", highlight=False)


def pretrain(
    store: StoreFolder,
    out: RunFolder,
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    variant: Annotated[
        str | None,
        typer.Option(help="A method as studies name it, for example go, gp, gpc or full: the rows of the ablation."),
    ] = None,
) -> None:
    """Pre-train without labels on the store's pre-training split."""
    model = api.pretrain(store, out, preset=preset, settings=overrides or [], variant=variant)
    console.print(f"Model: {model}", highlight=False, soft_wrap=True)


def finetune(
    store: StoreFolder,
    out: RunFolder,
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    pretrained: Annotated[
        Path | None,
        typer.Option(help="The model folder of a pre-training. Without it, training begins with random weights."),
    ] = None,
) -> None:
    """Fine-tune a segmenter on the store's training split.

    Training begins with a pre-trained model or with random weights. The model of the epoch with the best validation
    Dice is kept.
    """
    from pixelglobal.training.checkpoints import read_model

    model = api.finetune(store, out, preset=preset, settings=overrides or [], pretrained=pretrained)
    facts = read_model(model)[1]
    console.print(f"{facts['transfer']}; best validation Dice {facts['best_dice']:.4f}", highlight=False)
    console.print(f"Model: {model}", highlight=False, soft_wrap=True)


def evaluate(
    store: StoreFolder,
    model: Annotated[Path, typer.Option(help="The model folder of a fine-tuning.")],
    out: Annotated[Path, typer.Option(help="The folder for the rows and for the predicted labels as NIfTI.")],
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    method: Annotated[str, typer.Option(help="The name of the method in the rows.")] = "model",
) -> None:
    """Segment the held-out patients and score them.

    The labels are saved as NIfTI on the grids of the scans, and the scores as rows for `pixelglobal significance`.
    """
    with _progress("Evaluating patients") as progress:
        api.evaluate(store, model, out, preset=preset, settings=overrides or [], method=method, progress=progress)
    console.print(f"Rows: {out / 'rows.parquet'}", highlight=False, soft_wrap=True)


def uncertainty(
    store: StoreFolder,
    model: Annotated[Path, typer.Option(help="The model folder of a pre-training with pixel matching.")],
    out: Annotated[Path, typer.Option(help="The folder for the maps, one NIfTI file for each scan.")],
    cases: Annotated[
        str | None, typer.Option(help="The names of scans, with commas. Without it, the test split is used.")
    ] = None,
) -> None:
    """Map the uncertainty of a pre-trained teacher.

    The maps are saved as NIfTI on the grids of the scans; the values are between 0 and 1, and NaN where the prepared
    slices do not reach.
    """
    from pixelglobal.data.store import Store
    from pixelglobal.devices import default_device
    from pixelglobal.evaluation.uncertainty_maps import write_uncertainty

    opened = Store.open(store)
    chosen = cases.split(",") if cases else opened.splits.test
    with _progress("Mapping uncertainty") as progress:
        for done, case in enumerate(chosen, 1):
            write_uncertainty(model, opened, case, out, default_device())
            progress(done, len(chosen))
    console.print(f"{len(chosen)} maps in {out}", highlight=False)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time that is left, and the function that moves it: (done, total)."""
    columns = [*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
