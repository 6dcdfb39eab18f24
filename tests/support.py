"""What several test files share: a tiny configuration, the command line, a killed run, rows, tables, pictures."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

import pixelglobal as pg
from experiments.report.page import Picture, Report, write_report
from pixelglobal import config as settings
from pixelglobal.data.phantom import make_phantom, make_phantom_cohort
from pixelglobal.data.prepare import prepare
from pixelglobal.files import digest_of
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import ResUNet
from pixelglobal.seeds import seeded
from pixelglobal.tables.table import Table
from pixelglobal.training.checkpoints import save_model
from pixelglobal.training.runs import LocalRun
from pixelglobal.views.intensity import HuScale, normalize

TINY = [
    "prepare.image_size=32",
    "prepare.keep_ids=true",  # tests name cases, and nobody's
    "network.decoder_widths=[16,16,8,8,8]",
    "pretrain.epochs=2",
    "pretrain.steps_per_epoch=3",
    "pretrain.batch_size=4",
    "pixel_global.pixels_per_image=32",
    "pixel_global.mc_passes=2",
    "pretrain.log_every_steps=1",
    "finetune.epochs=3",
    "finetune.steps_per_epoch=2",
    "finetune.batch_size=4",
    "cluster.pretrain_workers=0",
]


ROOT = Path(__file__).resolve().parent.parent


def guessing_segmenter(
    folder, grid, structures, left_right_pairs=(), seed=0, encoder="resnet10t", widths=(16, 16, 8, 8, 8)
):
    """The folder of a segmenter with random weights, whose scores differ from place to place and label to label."""
    config = settings.resolve("smoke", [f"network.encoder={encoder}", "network.decoder_widths=[16,16,8,8,8]"])
    model = seeded(lambda: Segmenter(ResUNet(config.network), len(structures) + 1), seed)
    scale = HuScale(grid.hu_min, grid.hu_max, -600.0, 480.0)
    hu, _, spacing_mm = make_phantom(np.random.default_rng(0), size=grid.image_size, n_slices=6)
    images = torch.from_numpy(grid.slices_of(hu, spacing_mm)).float().unsqueeze(1)
    with torch.no_grad():
        for _ in range(40):  # until the running averages of batch norms are those of the scan
            model(normalize(images, scale))
        model.classifier.weight *= 10
    facts = {
        "kind": "segmenter", "pixelglobal_version": pg.__version__, "network": config.network.model_dump(mode="json"),
        "finetune": config.finetune.model_dump(mode="json"), "seed": seed, "cohort": "Phantom",
        "structures": [*structures], "left_right_pairs": [[*pair] for pair in left_right_pairs], "grid": grid.facts(),
        "scale": dataclasses.asdict(scale), "transfer": "random initialisation", "cases_seen": {}, "best_dice": 0.5,
    }  # fmt: skip
    return save_model(folder, {"segmenter": model}, facts)


def experiments(*words, timeout=300, cwd=ROOT):
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "ssl"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


class Killed(Exception):
    pass


class RunKilledAfter(LocalRun):
    """A run that keeps its state whenever it may, and whose process dies when that of so many steps is kept."""

    def __init__(self, folder, steps):
        super().__init__(folder, checkpoint_minutes=0)
        self._steps = steps

    def kept(self, metrics):
        super().kept(metrics)
        if int(self.latest_checkpoint().name.removeprefix("step_")) >= self._steps:
            raise Killed


def rows_of(scores, seeds=(0,), structures=("A", "B"), slices=2):
    """scores: {method: function (seed, patient number, structure) -> dice}."""
    rows = []
    for method, dice in scores.items():
        for seed in seeds:
            for i in range(8):
                for s in structures:
                    for index in [*range(slices), -1]:
                        value = dice(seed, i, s)
                        rows.append(
                            {"method": method, "seed": seed, "case": f"c{i}", "patient": f"p{i}", "slice_index": index,
                             "structure": s, "contoured": True, "dice": value,
                             "hausdorff_mm": np.inf if value == 0 else 10 * (1 - value), "diagonal_mm": 500.0}
                        )  # fmt: skip
    return pd.DataFrame(rows)


def wave(i):
    return 0.01 * np.sin(7 * i)


def table_of(title="Table", comparisons=1):
    frame = pd.DataFrame({"method": ["full"], "metric": ["DSC (%)"], "A": ["80.00"], "Average": ["80.00"]})
    tests = pd.DataFrame([{"method": "random", "structure": "A", "p_value": 0.01}] * comparisons)
    return Table(title, "A caption.", ("6 patients",), frame, tests, frozenset({(0, "A")}))


def picture_of(name="curves", text="loss", **more):
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.plot([1, 2], [3, 4])
    axis.set_title(text)
    return Picture(name, f"Heading of {name}", f"Caption of {name}", figure, **more)


def write(out, **changes):
    defaults = {
        "title": "A study",
        "question": "Does it help?",
        "tables": [table_of()],
        "pictures": [picture_of()],
        "runs": [{"run": "a", "method": "full"}, {"run": "b", "method": "random", "extra": 1.5}],
        "notes": ["No leakage."],
        "facts": {"environment": {"commit": "abc", "packages": {"torch": "2"}}, "command": "run it"},
    }
    return write_report(Report(**(defaults | changes)), out)


def make_leakage(pipeline):
    """Let the model of a finished run have seen one of its test scans, under another name; returns the case."""
    cases = pipeline.run.store.cases
    case = pipeline.run.store.splits.test[0]
    [voxels] = cases.loc[cases["case"] == case, "sha256"]
    model = pipeline.finetune.folder / "model" / "model.json"
    facts = json.loads(model.read_text())
    facts["cases_seen"][f"{case} as another.nii"] = voxels
    model.write_text(json.dumps(facts))
    mark = pipeline.finetune.folder / "done.json"
    done = json.loads(mark.read_text())
    done["bytes"]["model/model.json"] = model.stat().st_size  # a changed file would be a stage to compute anew
    done["sha256"]["model/model.json"] = digest_of(model)
    mark.write_text(json.dumps(done))
    return case


def phantom_store(folder, config, name, *, seed, n_patients=4, n_unlabelled=2, size=32):
    """A small phantom cohort of this name, prepared in a folder of its name."""
    scans = make_phantom_cohort(
        folder / f"scans_{name}", n_patients=n_patients, n_unlabelled=n_unlabelled, size=size, n_slices=8, seed=seed
    )
    path = scans / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    return prepare(scans, folder / name, config.prepare).store
