"""From scans to rows: `prepare`, `pretrain`, `finetune` and `evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelglobal.api.model import Model
from pixelglobal.api.options import DEFAULT_PRESET, AnyPath, Progress, Settings, map_of

if TYPE_CHECKING:
    import pandas as pd

    from pixelglobal.config.schema import Config
    from pixelglobal.data.store import Store

logger = logging.getLogger(__name__)
RUNS = Path("runs")  # in the working directory, where no folder is given


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
    The same call again keeps the scans that are finished. A scan that cannot be read, or that is surely wrong, is
    quarantined: no split has it; the reasons are in the log and in `quarantine.csv`. Raises ValueError if these are
    more than `prepare.max_quarantined`, or if the folder holds another cohort or other settings.

    Example::

        store = pg.prepare("scans", "store")
        print(len(store.cases), store.structures, store.splits.test)
    """
    from pixelglobal.config.overrides import resolve
    from pixelglobal.data.prepare import prepare as prepare_scans

    config = resolve(preset, settings)
    prepared = prepare_scans(Path(cohort), Path(store), config.prepare, map_cases=map_of(on_ray), progress=progress)
    for case, reason in prepared.quarantined.items():
        logger.warning("quarantined %s: %s", case, reason)
    return prepared.store


def pretrain(
    store: Store | AnyPath | Sequence[Store | AnyPath],
    out: AnyPath | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    method: str | None = None,
    watch: bool = False,
) -> Model:
    """Pre-train without labels on the store's pre-training split; returns the model.

    store: a prepared cohort, or several, which must be prepared alike: their pre-training splits are one pool.
    out: a new folder, or the folder of the same run, which then continues; None is `runs/pretrain-METHOD`.
    settings: `["pretrain.epochs=2"]`, or the same as nested dictionaries.
    method: as studies name it, such as go, gp, gpc and full, the rows of the paper's ablation; None is what the
    settings say.
    watch: show step, loss, waiting for data and the time that is left.
    Raises ValueError if a setting is unknown, or if `out` holds anything else.

    Example::

        run = pg.pretrain(store, method="full")
    """
    from pixelglobal.api.watch import watching
    from pixelglobal.cluster.resources import start_ray
    from pixelglobal.cluster.train import run_pretrain
    from pixelglobal.config.overrides import resolve, variant

    config = resolve(preset, settings)
    config = variant(config, method) if method else config
    several = store if isinstance(store, Sequence) and not isinstance(store, str) else [store]
    roots = [_opened(one).root for one in several]
    folder = Path(out) if out is not None else RUNS / f"pretrain-{method or config.pretrain.method}"
    _claim_run(folder, config)
    if config.cluster.pretrain_workers > 0:
        start_ray()
    with watching(folder, watch):
        return Model(run_pretrain(config, roots, folder))


def finetune(
    store: Store | AnyPath,
    pretrained: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    patients: int | None = None,
    watch: bool = False,
) -> Model:
    """Fine-tune a segmenter on the store's training split; returns the model with the best validation Dice.

    pretrained: what `pretrain` returned; None begins with random weights.
    out: a new folder, or the folder of the same run, which then continues; None is `runs/finetune-RUN`, after the
    folder of the pre-training.
    patients: how many labelled training patients it sees; None is what the settings say, all by default.
    watch: show step, loss, validation and the time that is left.
    With `finetune.pseudo_labels`, the model of a first round, which is kept in `out/first_round`, labels slices of
    unlabelled patients for a second one.
    Raises ValueError if a setting is unknown, if `out` holds anything else, or if the networks do not match.

    Example::

        segmenter = pg.finetune(store, run, patients=2)
    """
    from pixelglobal.api.watch import watching
    from pixelglobal.cluster.resources import start_ray
    from pixelglobal.cluster.train import run_finetune
    from pixelglobal.config.overrides import resolve, with_settings
    from pixelglobal.training.labelled import choose_patients

    config = resolve(preset, settings)
    config = with_settings(config, finetune={"patients": patients}) if patients is not None else config
    opened, start = _opened(store), None if pretrained is None else Model(pretrained)  # a wrong folder is named now
    folder = Path(out) if out is not None else RUNS / f"finetune-{_name_of(start)}"
    chosen = choose_patients(opened, config.finetune.patients, config.seed)
    _claim_run(folder, config)
    if config.cluster.finetune_workers > 0:
        start_ray()
    work: dict[str, Any] = {
        "pretrained": None if start is None else start.folder,
        "train_cases": chosen,
        "validation_cases": opened.splits.validation,
    }
    with watching(folder, watch):
        if config.finetune.pseudo_labels:
            first = folder / "first_round"
            first.mkdir(exist_ok=True)
            work["teacher"] = run_finetune(config, opened.root, first, **work)
        return Model(run_finetune(config, opened.root, folder, **work))


def _name_of(start: Model | None) -> str:
    if start is None:
        return "random"
    run = start.folder.parent if start.folder.name == "model" else start.folder
    return run.resolve().name.removeprefix("pretrain-")


def evaluate(
    store: Store | AnyPath,
    model: AnyPath,
    out: AnyPath | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Settings = (),
    method: str = "model",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Segment the held-out patients and score them; returns the rows, which are also in `out/rows.parquet`.

    store: a store, of which the split `evaluate.split` is taken, or a folder of labelled scans in any layout, such as
    an external test set, of which all are taken.
    model: what `finetune` returned, or its folder.
    out: a folder; None is `evaluation` beside the folder of the model.
    method: the name of the method in the rows.
    progress: called with the number of patients that are done and of all patients.
    The predicted labels are saved as NIfTI in `out/predictions`, each on the grid of its scan. The columns of the rows
    are described in docs/reference/rows.md. `out/calibration.csv` and `out/reliability.png` say whether probabilities
    mean what they say, and how much of the error is where the model is unsure. Raises ValueError if the model has seen
    one of the scans, or if it segments none of their structures.

    Example::

        rows = pg.evaluate(store, segmenter, "runs/evaluation", method="full")
        print(rows.groupby("structure")["dice"].mean())
    """
    import pandas as pd

    from pixelglobal.config.overrides import resolve
    from pixelglobal.data.store import Store
    from pixelglobal.devices import default_device
    from pixelglobal.evaluation.evaluate import evaluate as evaluate_cases
    from pixelglobal.evaluation.evaluate import evaluate_folder

    config = resolve(preset, settings)
    trained = Model(model)
    folder = Path(out) if out is not None else trained.folder.parent / "evaluation"
    columns = {"method": method, "seed": trained.facts["seed"]}
    if not isinstance(store, Store) and Path(store).is_dir() and not (Path(store) / "cohort.json").is_file():
        written = evaluate_folder(
            config, Path(store), trained.folder, folder, default_device(), columns=columns, progress=progress
        )
        return pd.read_parquet(written)
    opened = _opened(store)
    cases = getattr(opened.splits, config.evaluate.split)
    if not cases:
        raise ValueError(f"the {config.evaluate.split} split of {opened.root} is empty; give evaluate.split=validation")
    written = evaluate_cases(
        config, opened, trained.folder, folder, default_device(), cases=cases, columns=columns, progress=progress
    )
    return pd.read_parquet(written)


def _claim_run(folder: Path, config: Config) -> None:
    """Take a new or empty folder for a run, or one that the same settings began; refuse any other.

    Where a run is computed (`cluster.*`), and settings that change no result, may differ from one call to the next.
    """
    from pixelglobal.config.section import Section
    from pixelglobal.files import claim_folder

    fields = {name: getattr(config, name) for name in type(config).model_fields}
    sections = {name: value for name, value in fields.items() if isinstance(value, Section)} | config.methods
    free = {f"{name}.{setting}" for name, section in sections.items() for setting in section.without_effect}
    free -= {"pretrain.cases", "pretrain.source_weights"}  # which scans a run reads may not change under way
    values = config.model_dump(mode="json")
    claim_folder(folder, "config.json", values, contents="run", ignored={"cluster", *free})


def _opened(store: Store | AnyPath) -> Store:
    from pixelglobal.data.store import Store

    return store if isinstance(store, Store) else Store.open(Path(store))
