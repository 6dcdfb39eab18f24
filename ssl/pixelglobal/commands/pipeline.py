"""`prepare`, `pretrain`, `finetune`, `evaluate` and `uncertainty`: from scans to rows, one step at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pixelglobal import api
from pixelglobal.api.options import DEFAULT_PRESET
from pixelglobal.commands.inspection import print_lines
from pixelglobal.commands.progress import progress_bar

console = Console()

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
OptionalRunFolder = Annotated[
    Path | None,
    typer.Option(help="The folder of this run; the same command continues it. Without it, one in `runs`, by its name."),
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
    keep_ids: Annotated[
        bool,
        typer.Option(
            "--keep-ids", help="Keep the names of files and patients in the store, in place of salted hashes."
        ),
    ] = False,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="header|resample|orientation",
            help="What to put right in scans: header for HU stored with 1024 added and spacings in metres, resample "
            "for axes that are not at right angles, orientation for sagittal or coronal slices. It can be given again.",
        ),
    ] = None,
    max_quarantined: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Fail if more of the scans cannot be used or are surely wrong. Without it, 5%."
        ),
    ] = None,
    on_ray: Annotated[
        bool, typer.Option("--on-ray", help="Spread the scans over the Ray cluster of RAY_ADDRESS, or over all cores.")
    ] = False,
) -> None:
    """Read, check and clip scans, and write their slices.

    A scan that cannot be read, or that is surely wrong, is quarantined: no split has it, and the reason is printed. The
    other scans are not affected. See docs/how-to/check-data.md.
    """
    from pixelglobal.inspection.inspection import inspect

    words = [*(overrides or []), *([f"prepare.layout={layout}"] if layout else [])]
    words += ["prepare.keep_ids=true"] if keep_ids else []
    words += [f"prepare.fix={json.dumps(fix)}"] if fix else []
    words += [f"prepare.max_quarantined={_share(max_quarantined)}"] if max_quarantined else []
    with progress_bar("Preparing scans", console) as progress:
        opened = api.prepare(cohort, store, preset=preset, settings=words, on_ray=on_ray, progress=progress)
    print_lines(inspect(opened, compare_scans=False))
    splits = opened.splits
    counts = {name: len(getattr(splits, name)) for name in ("pretrain", "train", "validation", "test")}
    console.print(f"{len(opened.cases)} scans in {store}, splits {counts}", highlight=False)
    if opened.structures:
        meaning = opened.absent_structures.replace("_", " ")
        console.print(f"A structure without a voxel in a scan counts as {meaning} (prepare.absent_structures).")
        ceiling = ", ".join(f"{name} {100 * dice:.1f}" for name, dice in opened.dice_ceiling.items())
        console.print(f"The highest DSC (%) that this grid allows, mean over scans: {ceiling}.", highlight=False)


def _share(text: str) -> float:
    """A share as it is typed, 5% or 0.05."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"--max-quarantined {text}: expected a share such as 5% or 0.05") from None


def pretrain(
    store: Annotated[
        list[Path],
        typer.Option(help="The folder that `pixelglobal prepare` has written. Give it again for a pool of cohorts."),
    ],
    out: OptionalRunFolder = None,
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    method: Annotated[
        str | None,
        typer.Option(help="A method as studies name it, for example go, gp, gpc or full: the rows of the ablation."),
    ] = None,
) -> None:
    """Pre-train without labels on one or several cohorts."""
    model = api.pretrain(store, out, preset=preset, settings=overrides or [], method=method, watch=True)
    console.print(f"Model: {model.folder}", highlight=False, soft_wrap=True)


def finetune(
    store: StoreFolder,
    out: OptionalRunFolder = None,
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    pretrained: Annotated[
        Path | None,
        typer.Option(help="The folder of a pre-training. Without it, training begins with random weights."),
    ] = None,
    patients: Annotated[
        int | None,
        typer.Option(help="How many labelled training patients it sees. Without it, all."),
    ] = None,
) -> None:
    """Fine-tune a segmenter on the store's training split.

    Training begins with a pre-trained model or with random weights. The model of the epoch with the best validation
    Dice is kept.
    """
    model = api.finetune(store, pretrained, out, preset=preset, settings=overrides or [], patients=patients, watch=True)
    facts = model.facts
    console.print(f"{facts['transfer']}; best validation Dice {facts['best_dice']:.4f}", highlight=False)
    console.print(f"Model: {model.folder}", highlight=False, soft_wrap=True)


def evaluate(
    store: Annotated[
        Path,
        typer.Option(help="A store, or a folder of labelled scans, such as an external test set, which is read whole."),
    ],
    model: Annotated[Path, typer.Option(help="The folder of a fine-tuning.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the rows and the predicted labels. Without it, `evaluation` beside the model."
        ),
    ] = None,
    overrides: Settings = None,
    preset: Preset = DEFAULT_PRESET,
    method: Annotated[str, typer.Option(help="The name of the method in the rows.")] = "model",
) -> None:
    """Segment the held-out patients and score them.

    The labels are saved as NIfTI on the grids of the scans, and the scores as rows for `pixelglobal significance`.
    Whether probabilities mean what they say, and whether errors lie where the model is unsure, is in calibration.csv.
    """
    with progress_bar("Evaluating patients", console) as progress:
        api.evaluate(store, model, out, preset=preset, settings=overrides or [], method=method, progress=progress)
    folder = out or api.Model(model).folder.parent / "evaluation"
    for name in ("rows.parquet", "calibration.csv", "reliability.png"):
        console.print(f"Written: {folder / name}", highlight=False, soft_wrap=True)


def uncertainty(
    store: StoreFolder,
    model: Annotated[Path, typer.Option(help="The folder of a fine-tuning, or of a pre-training with pixel matching.")],
    out: Annotated[Path, typer.Option(help="The folder for the maps, one NIfTI file for each scan.")],
    cases: Annotated[
        str | None, typer.Option(help="The names of scans, with commas. Without it, the test split is used.")
    ] = None,
) -> None:
    """Map where a pre-trained or fine-tuned model is unsure.

    Of a pre-training it is the paper's U, of a fine-tuning the entropy of the labels over dropout passes. The maps are
    saved as NIfTI on the grids of the scans; the values are between 0 and 1, and NaN where the prepared slices do not
    reach.
    """
    from pixelglobal.data.store import Store
    from pixelglobal.devices import default_device
    from pixelglobal.evaluation.uncertainty_maps import write_uncertainty

    opened = Store.open(store)
    chosen = cases.split(",") if cases else opened.splits.test
    if not chosen:
        raise ValueError(f"the test split of {store} is empty, so there is no scan to map; name some with --cases A,B")
    with progress_bar("Mapping uncertainty", console) as progress:
        for done, case in enumerate(chosen, 1):
            write_uncertainty(model, opened, case, out, default_device())
            progress(done, len(chosen))
    console.print(f"{len(chosen)} maps in {out}", highlight=False)
