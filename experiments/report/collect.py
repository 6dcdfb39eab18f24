"""What a study's report shows, read from the finished stages: rows, curves, example slices, costs, leakage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.report.figures import Curve, Overlay, UncertaintyPicture
from experiments.runner.runs import Chain
from pixelglobal.config.schema import Config
from pixelglobal.data.volumes import read_labels
from pixelglobal.devices import default_device
from pixelglobal.evaluation.uncertainty_maps import uncertainty_maps
from pixelglobal.training.collapse_watch import collapsed_heads
from pixelglobal.training.runs import read_metrics


def finished(chains: Sequence[Chain]) -> list[Chain]:
    """The chains whose evaluation is there."""
    return [chain for chain in chains if chain.evaluate.is_complete]


def rows_of(chains: Sequence[Chain]) -> pd.DataFrame:
    """The rows of all finished cells, with the study's names for method and seed."""
    parts = []
    for chain in finished(chains):
        part = pd.read_parquet(chain.rows)
        cell = chain.cell
        part["study"], part["method"], part["seed"], part["cohort"] = (
            cell.study, cell.method, cell.config.seed, cell.cohort,
        )  # fmt: skip
        part["labelled_patients"] = chain.labelled_patients
        parts.append(part)
    if not parts:
        raise ValueError("no cell of this study is finished; run it first, or see why its cells failed with `status`")
    return pd.concat(parts, ignore_index=True)


def by_cohort(chains: Sequence[Chain]) -> dict[str, list[Chain]]:
    """The chains of each cohort, in the order of the study."""
    groups: dict[str, list[Chain]] = {}
    for chain in chains:
        groups.setdefault(chain.cell.cohort, []).append(chain)
    return groups


def curves_of(chains: Sequence[Chain], kind: str) -> list[Curve]:
    """The training logs of one kind of stage, "pretrain" or "finetune"."""
    seen: dict[str, Curve] = {}  # cells share stages
    for chain in chains:
        stage = getattr(chain, kind)
        if stage is not None and (stage.folder / "metrics.jsonl").is_file():
            seen.setdefault(stage.name, Curve(chain.cell.method, chain.cell.config.seed, read_metrics(stage.folder)))
    return list(seen.values())


def overlays_of(chains: Sequence[Chain], count: int = 3) -> list[Overlay]:
    """For a few test cases of one cohort the slice with most structures: the reference, and each method's first run."""
    firsts: dict[str, Chain] = {}
    for chain in finished(chains):
        firsts.setdefault(chain.cell.method, chain)
    any_chain = next(iter(firsts.values()))
    store = any_chain.cell.store
    cases = sorted(
        path.name.removesuffix(".nii.gz") for path in (any_chain.evaluate.folder / "predictions").glob("*.gz")
    )
    overlays = []
    for case in [cases[i] for i in np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)]:
        reference, spacing_mm, _ = read_labels(store.label_path(case))
        variety = [len(np.unique(s)) * 1e6 + np.count_nonzero(s) for s in reference]
        index = int(np.argmax(variety))
        predictions = {
            method: read_labels(chain.evaluate.folder / "predictions" / f"{case}.nii.gz")[0][index]
            for method, chain in firsts.items()
        }
        image = store.paste_back_image(case, store.read_case(case).image_hu[index].numpy())
        overlays.append(
            Overlay(case, index, image, spacing_mm[1] / spacing_mm[2], reference[index], predictions, store.structures)
        )
    return overlays


def uncertainty_of(chains: Sequence[Chain], count: int = 4) -> list[UncertaintyPicture]:
    """Teacher uncertainty of the middle slices of a few test cases, from the first run that has a pixel head."""
    for chain in finished(chains):
        settings = chain.cell.config.pretrain
        if chain.pretrain is None or settings.method != "pixel_global" or not settings.pixel_matching:
            continue
        pictures, store = [], chain.cell.store
        for case in store.splits.test[:count]:
            whole = store.read_case(case)
            index = int(whole.label.flatten(1).count_nonzero(1).argmax())
            image = whole.image_hu[index : index + 1]
            u = uncertainty_maps(chain.pretrain.folder / "model", image, default_device())[0].numpy()
            pictures.append(UncertaintyPicture(case, index, image[0].numpy(), u))
        return pictures
    return []


def cell_table(chains: Sequence[Chain]) -> list[dict[str, Any]]:
    """One flat record for each cell: what it is, its state and score, commit and stages, and what settings differ."""
    records = []
    settings = [flat_settings(chain.cell.config) for chain in chains]
    differ = [name for name in settings[0] if len({str(own[name]) for own in settings}) > 1 and name != "seed"]
    for chain, own in zip(chains, settings, strict=True):
        config, done = chain.cell.config, chain.evaluate.is_complete
        record: dict[str, Any] = {
            "cell": chain.cell.name,
            "method": chain.cell.method,
            "seed": config.seed,
            "state": "done" if done else "failed" if chain.error() else "missing",
            "cohort": chain.cell.cohort,
            "labelled patients": chain.labelled_patients,
            "mean DSC (%)": "",
        }
        if done:
            rows = pd.read_parquet(chain.rows)
            volumes = rows[(rows["slice_index"] == -1) & rows["contoured"]]
            commit = json.loads((chain.evaluate.folder / "environment.json").read_text())["commit"]
            record["commit"] = commit if commit.startswith("source-") else commit[:10]
            record["mean DSC (%)"] = f"{volumes.groupby('structure')['dice'].mean().mean() * 100:.2f}"
        for stage in (chain.pretrain, chain.finetune, chain.evaluate):
            if stage is not None:
                record[f"{stage.kind} (s)"] = f"{stage.seconds:.0f}" if stage.is_complete else ""
                record[f"{stage.kind} folder"] = stage.name
        used = [name for name in differ if chain.pretrain is not None or not name.startswith("pretrain.")]
        record |= {name: str(own[name]) for name in used}
        records.append(record)
    columns = list(dict.fromkeys(key for record in records for key in record))
    return [{column: record.get(column, "") for column in columns} for record in records]


def flat_settings(config: Config) -> dict[str, Any]:
    """Every setting by its name on the command line, such as pretrain.batch_size."""
    flat: dict[str, Any] = {}
    for section, values in config.model_dump(mode="json").items():
        if isinstance(values, dict):
            flat |= {f"{section}.{name}": value for name, value in values.items()}
        else:
            flat[section] = values
    return flat


def leakage_note(chains: Sequence[Chain]) -> tuple[str, bool]:
    """A sentence on whether any test scan, by its voxels, was seen in training for its own result; and whether so.

    A scan that is tested in one cohort and trained on in another harms no result here, since every cell's models see
    one cohort; it is named all the same, for whoever goes on with these models.
    """
    tested: dict[str, set[str]] = {}  # the voxels of a scan to cohorts
    seen: dict[str, set[str]] = {}
    leaked = set()
    for chain in finished(chains):
        cell, cases = chain.cell, chain.cell.store.cases
        own_test = set(cases[cases["case"].isin(cell.store.splits.test)]["sha256"])
        facts = json.loads((chain.finetune.folder / "model" / "model.json").read_text())
        own_seen = {sha: case for case, sha in facts["cases_seen"].items()}
        leaked |= {f"{own_seen[sha]} in {cell.name}" for sha in own_test & own_seen.keys()}
        for cohorts, scans in ((tested, own_test), (seen, own_seen)):
            for sha in scans:
                cohorts.setdefault(sha, set()).add(cell.cohort)
    shared = {
        f"{sha[:8]} (tested in {a}, trained on in {b})"
        for sha in tested.keys() & seen.keys()
        for a in tested[sha]
        for b in seen[sha] - {a}
    }
    if leaked:
        names = ", ".join(sorted(leaked))
        return f"LEAKAGE: test scans were seen in training: {names}. These results must not be used.", True
    note = (
        f"No leakage: none of the {len(tested)} test scans, compared by the content of their voxels, was seen in the "
        f"pre-training, fine-tuning or validation of the models that it tests ({len(seen)} scans)."
    )
    if shared:
        note += f" Scans that cohorts share, by the first digits of their hash: {', '.join(sorted(shared))}."
    return note, False


def failures(chains: Sequence[Chain]) -> list[str]:
    """One sentence for each cell that has no result."""
    notes = []
    for chain in chains:
        if not chain.evaluate.is_complete:
            error = (chain.error() or "it has not run").strip().splitlines()[-1]
            notes.append(f"{chain.cell.name} has no result: {error}")
    return notes


def collapses(chains: Sequence[Chain]) -> list[str]:
    """One sentence for each pre-training that ended collapsed, as `pretrain.on_collapse=warn` allows."""
    notes = {}
    for chain in chains:
        stage = chain.pretrain  # cells share stages: the first names it
        if stage is not None and stage.name not in notes and (heads := collapsed_heads(read_metrics(stage.folder))):
            notes[stage.name] = (
                f"The pre-training of {chain.cell.name} ended collapsed ({' and '.join(heads)} head; {stage.name}): "
                "its codes tell hardly any inputs apart"
            )
    return list(notes.values())


def environment_of(chains: Sequence[Chain]) -> dict[str, Any]:
    """Where the first finished cell ran, and its resolved settings."""
    chain = finished(chains)[0]
    place = json.loads((chain.evaluate.folder / "environment.json").read_text())
    return {"environment": place, "settings of the first cell": chain.cell.config.model_dump(mode="json")}
