"""From scans to rows: `prepare`, `pretrain`, `finetune` and `evaluate`; and `load_model` for what was trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelglobal.api.options import DEFAULT_PRESET, AnyPath, Progress, Settings, map_of

if TYPE_CHECKING:
    import pandas as pd

    from pixelglobal.config.schema import Config
    from pixelglobal.data.store import Store
    from pixelglobal.evaluation.loaded_model import LoadedModel

logger = logging.getLogger(__name__)


def prepare(
    cohort: AnyPath,
    store: AnyPath,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    on_ray: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Read, check and clip the scans of a cohort, write their slices into the folder `store`, and open it.

    cohort: a folder in the layout of MSD or nnU-Net, or one of plain NIfTI scans.
    settings: `["prepare.image_size=96"]`, or the same as nested dictionaries.
    on_ray: spread the scans over the Ray cluster of RAY_ADDRESS, or over the cores of this machine.
    progress: called with the number of scans that are done and of all scans.
    The same call again keeps the scans that are finished. A scan that cannot be read is left out with a warning in the
    log; the reasons are also in `rejects.csv`. Raises ValueError if no scan can be used, or if the folder holds
    another cohort or other settings.

    Example::

        store = pg.prepare("scans", "store")
        print(len(store.cases), store.structures, store.splits.test)
    """
    from pixelglobal.config.overrides import resolve
    from pixelglobal.data.prepare import prepare as prepare_scans

    config = resolve(preset, settings)
    prepared = prepare_scans(Path(cohort), Path(store), config.prepare, map_cases=map_of(on_ray), progress=progress)
    for case, reason in prepared.rejects.items():
        logger.warning("left out %s: %s", case, reason)
    return prepared.store


def pretrain(
    store: Store | AnyPath,
    out: AnyPath,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    variant: str | None = None,
) -> Path:
    """Pre-train without labels on the store's pre-training split; returns the folder of the model.

    out: a new folder, or the folder of the same run, which then continues.
    settings: `["pretrain.epochs=2"]`, or the same as nested dictionaries.
    variant: a method as studies name it, such as go, gp, gpc and full, the rows of the paper's ablation.
    Raises ValueError if a setting is unknown, or if `out` holds anything else.

    Example::

        model = pg.pretrain(store, "runs/pre", variant="full")
    """
    from pixelglobal.cluster.resources import start_ray
    from pixelglobal.cluster.train import run_pretrain
    from pixelglobal.config.overrides import resolve
    from pixelglobal.config.overrides import variant as with_variant

    config = resolve(preset, settings)
    config = with_variant(config, variant) if variant else config
    opened, folder = _opened(store), Path(out)
    _claim_run(folder, config)
    if config.cluster.pretrain_workers > 0:
        start_ray()
    return run_pretrain(config, opened.root, folder)


def finetune(
    store: Store | AnyPath,
    out: AnyPath,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    pretrained: AnyPath | None = None,
) -> Path:
    """Fine-tune a segmenter on the store's training split; returns the folder of the model with the best validation.

    out: a new folder, or the folder of the same run, which then continues.
    pretrained: the folder that `pretrain` returned; None begins with random weights.
    With `finetune.pseudo_labels`, the model of a first round, which is kept in `out/first_round`, labels slices of
    unlabelled patients for a second one.
    Raises ValueError if a setting is unknown, if `out` holds anything else, or if the networks do not match.

    Example::

        segmenter = pg.finetune(store, "runs/ft", pretrained=model)
    """
    from pixelglobal.cluster.resources import start_ray
    from pixelglobal.cluster.train import run_finetune
    from pixelglobal.config.overrides import resolve
    from pixelglobal.training.checkpoints import read_model
    from pixelglobal.training.labelled import choose_patients

    config = resolve(preset, settings)
    opened, folder = _opened(store), Path(out)
    if pretrained is not None:
        read_model(Path(pretrained))  # a wrong folder is better named now than after the data are read
    _claim_run(folder, config)
    if config.cluster.finetune_workers > 0:
        start_ray()
    work: dict[str, Any] = {
        "pretrained": None if pretrained is None else Path(pretrained),
        "train_cases": choose_patients(opened, config.finetune.patients, config.seed),
        "validation_cases": opened.splits.validation,
    }
    if not config.finetune.pseudo_labels:
        return run_finetune(config, opened.root, folder, **work)
    first = folder / "first_round"
    first.mkdir(exist_ok=True)
    teacher = run_finetune(config, opened.root, first, **work)
    return run_finetune(config, opened.root, folder, **work, teacher=teacher)


def evaluate(
    store: Store | AnyPath,
    model: AnyPath,
    out: AnyPath,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    method: str = "model",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Segment the held-out patients and score them; returns the rows, which are also in `out/rows.parquet`.

    model: the folder that `finetune` returned.
    method: the name of the method in the rows.
    progress: called with the number of patients that are done and of all patients.
    The predicted labels are saved as NIfTI in `out/predictions`, each on the grid of its scan. The columns of the rows
    are described in docs/reference/rows.md. Raises ValueError if the model has seen one of the scans, or if it
    segments other structures.

    Example::

        rows = pg.evaluate(store, segmenter, "runs/ev", method="full")
        print(rows.groupby("structure")["dice"].mean())
    """
    import pandas as pd

    from pixelglobal.config.overrides import resolve
    from pixelglobal.devices import default_device
    from pixelglobal.evaluation.evaluate import evaluate as evaluate_cases
    from pixelglobal.training.checkpoints import read_model

    config = resolve(preset, settings)
    opened, folder = _opened(store), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written = evaluate_cases(
        config,
        opened,
        Path(model),
        folder,
        default_device(),
        cases=getattr(opened.splits, config.evaluate.split),
        columns={"method": method, "seed": read_model(Path(model))[1]["seed"]},
        progress=progress,
    )
    return pd.read_parquet(written)


def load_model(folder: AnyPath) -> LoadedModel:
    """A trained model as a PyTorch module that takes slices in HU: a segmenter, or a pre-trained network.

    folder: what `pretrain` or `finetune` returned. The module is on the CPU and in evaluation mode; `facts` says what
    it is and which scans it has seen. Raises ValueError if the folder holds no model.

    Example::

        images_hu = store.read_case(store.splits.test[0]).image_hu
        scores = pg.load_model("runs/ft/model")(images_hu)  # [B, H, W] to [B, L, H, W]
    """
    from pixelglobal.evaluation.loaded_model import load_model as load

    return load(Path(folder))


def _claim_run(folder: Path, config: Config) -> None:
    """Take a new or empty folder for a run, or one that the same settings began; refuse any other.

    Where a run is computed (`cluster.*`), and settings that change no result, may differ from one call to the next.
    """
    from pixelglobal.config.section import Section
    from pixelglobal.files import claim_folder

    fields = {name: getattr(config, name) for name in type(config).model_fields}
    sections = {name: value for name, value in fields.items() if isinstance(value, Section)} | config.methods
    free = {f"{name}.{setting}" for name, section in sections.items() for setting in section.without_effect}
    free -= {"pretrain.cases"}  # which scans a run reads may not change under way
    values = config.model_dump(mode="json")
    claim_folder(folder, "config.json", values, contents="run", ignored={"cluster", *free})


def _opened(store: Store | AnyPath) -> Store:
    from pixelglobal.data.store import Store

    return store if isinstance(store, Store) else Store.open(Path(store))
