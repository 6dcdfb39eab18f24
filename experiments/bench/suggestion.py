"""Is it worth asking a model whom to contour next? Suggested patients against patients at random, in retrospect.

Every draw begins with the same few labelled patients for both: a network is fine-tuned on them, suggests further ones
of the training split, and is trained anew with the labels of these, or of as many at random. Scores are of validation
patients; no epoch is chosen by them, and no test patient is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.bench.finetuning import CPU, dice_of
from experiments.bench.timing import Findings
from pixelglobal import config as settings
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.evaluation.load_segmenter import load_segmenter
from pixelglobal.evaluation.suggestion import ranked, summaries
from pixelglobal.seeds import derive
from pixelglobal.statistics.mrmc import compare_methods
from pixelglobal.training.finetune import finetune
from pixelglobal.training.runs import LocalRun

ARMS = ("random", "suggested")


def bench_suggestion(
    store: Store,
    rows_file: Path,
    draws: Sequence[int],
    *,
    overrides: Sequence[str] = (),
    steps: int = 300,
    n_start: int = 4,
    n_added: int = 4,
) -> Findings:
    """Mean DSC after adding patients by suggestion and at random, compared over draws and validation patients.

    rows_file: a CSV with a row for each draw, arm and patient, written as they come; what it holds already is not
    trained again. Raises ValueError if the training split has fewer patients than are asked for.
    """
    pool = list(store.splits.train)
    if len(pool) < n_start + n_added:
        raise ValueError(f"the training split of {store.root} has {len(pool)} scans; {n_start + n_added} are needed")
    rows = pd.read_csv(rows_file).to_dict("records") if rows_file.is_file() else []
    done = {row["draw"] for row in rows}
    for draw in draws:
        if draw not in done:
            config = settings.resolve("small", [*overrides, f"seed={draw}"])
            config = settings.with_settings(config, finetune={"epochs": 1, "steps_per_epoch": steps})
            rows += _draw(config, store, pool, n_start, n_added)
            pd.DataFrame(rows).to_csv(rows_file, index=False)
    return _findings(pd.DataFrame(rows), store, n_start, n_added, steps)


def _draw(config: Config, store: Store, pool: list[str], n_start: int, n_added: int) -> list[dict[str, Any]]:
    order = np.random.default_rng(derive(config.seed, "first patients")).permutation(len(pool))
    start, left = [pool[i] for i in order[:n_start]], [pool[i] for i in order[n_start:]]
    with tempfile.TemporaryDirectory() as folder:
        first = _train(config, store, start, Path(folder) / "first")
        described = {scan.case: scan for scan in summaries(first, store, pool, CPU)}
        suggested = ranked([described[c] for c in left], [described[c] for c in start], n_added)
        added = {"start": [], "random": left[:n_added], "suggested": suggested["case"].tolist()}
        rows = []
        for arm, cases in added.items():
            model = first if arm == "start" else _train(config, store, [*start, *cases], Path(folder) / arm)
            segmenter, scale = load_segmenter(model, CPU)[:2]
            for case in store.splits.validation:
                dice = 100 * np.nanmean(dice_of(segmenter, scale, store, case, config))
                rows.append({"draw": config.seed, "arm": arm, "patient": case, "dice": round(float(dice), 3),
                             "added": " ".join(cases)})  # fmt: skip
    return rows


def _train(config: Config, store: Store, cases: Sequence[str], folder: Path) -> Path:
    folder.mkdir()
    return finetune(config, store, LocalRun(folder), CPU, pretrained=None, train_cases=cases, validation_cases=())


def _findings(rows: pd.DataFrame, store: Store, n_start: int, n_added: int, steps: int) -> Findings:
    means = rows.groupby(["arm", "draw"])["dice"].mean().groupby("arm")
    table = [{"arm": arm, "mean DSC (%)": means.mean()[arm], "sd of draws": means.std()[arm], "draws": n}
             for arm, n in means.count().items()]  # fmt: skip
    facts = {"store": store.name, "start": n_start, "added": n_added, "steps": steps, "torch": torch.__version__}
    both = rows[rows["arm"].isin(ARMS)]
    if both["draw"].nunique() >= 3:
        [result] = compare_methods(
            both["dice"], methods=both["arm"], runs=both["draw"], patients=both["patient"], reference="suggested"
        )
        interval = f"{result.difference:+.2f} [{result.low:+.2f}, {result.high:+.2f}], p = {result.p_value:.3f}"
        facts["suggested minus random"] = interval
    return Findings("patients added by suggestion and at random", table, facts=facts)
