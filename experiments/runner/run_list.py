"""The runs of a study as a file, `OUT/STUDY/runs.json`, written before they start: what a browser of runs shows.

A run's stages are named by their addresses, so that its state, curves and scores are read from their folders, and
nothing of a cohort or a config has to be opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.runner.pipeline import Pipeline
from experiments.runner.progress import state_of
from experiments.runner.stages import Stage
from experiments.studies.study import Study
from pixelglobal.config.schema import Config
from pixelglobal.files import read_json_object, write_json
from pixelglobal.training.runs import read_metrics


def flat_settings(config: Config) -> dict[str, Any]:
    """Every setting by its name on the command line, such as pretrain.batch_size."""
    flat: dict[str, Any] = {}
    for section, values in config.model_dump(mode="json").items():
        if isinstance(values, dict):
            flat |= {f"{section}.{name}": value for name, value in values.items()}
        else:
            flat[section] = values
    return flat


def write_run_list(study: Study, pipelines: Sequence[Pipeline], out: Path) -> Path:
    """Write the list of a study's runs: name, method, seed, cohort, stages, and the settings in which runs differ."""
    settings = [flat_settings(pipeline.run.config) for pipeline in pipelines]
    names = dict.fromkeys(name for one in settings for name in one if name != "seed")
    differ = [name for name in names if len({str(one.get(name)) for one in settings}) > 1]
    runs = [
        {"name": p.run.name, "method": p.run.method, "seed": p.run.config.seed, "cohort": p.run.cohort,
         "labelled": p.labelled_patients, "stages": {stage.kind: stage.name for stage in p.stages},
         "settings": {name: one[name] for name in differ if name in one}}
        for p, one in zip(pipelines, settings, strict=True)
    ]  # fmt: skip
    return write_json(out / study.name / "runs.json", {"study": study.name, "title": study.title, "runs": runs})


@dataclass(frozen=True)
class ListedRun:
    """A run as its list names it, with its folders."""

    out: Path
    facts: dict[str, Any]

    @property
    def stages(self) -> list[Stage]:
        """In the order in which they run."""
        return [Stage(kind, self.out / "stages" / name, {}) for kind, name in self.facts["stages"].items()]

    def state(self) -> tuple[str, str, float]:
        """done, failed, running or waiting; what it is doing in words; and the share that is done."""
        shares, said, state = [], "", "waiting"
        for stage in self.stages:
            words, share = state_of(stage)
            shares.append(share if words != "failed" else 0.0)
            if words == "failed":
                return "failed", f"{stage.kind} failed", sum(shares) / len(self.stages)
            if share < 1 and not said:
                said = "" if words == "waiting" else f"{stage.kind}: {words}"
                state = "waiting" if words == "waiting" else "running"
        if len(shares) == len(self.stages) and min(shares) == 1:
            return "done", "", 1.0
        return state, said, sum(shares) / len(self.stages)

    def best_dice(self) -> float | None:
        """The best validation Dice of its fine-tuning so far, in %."""
        folder = self.out / "stages" / self.facts["stages"]["finetune"]
        kept = folder / "model" / "model.json"
        if kept.is_file():
            return 100 * float(read_json_object(kept)["best_dice"])
        values = [v for line in read_metrics(folder) if (v := line.get("validation_dice")) is not None]
        return 100 * max(values) if values else None

    def error(self) -> str | None:
        """The traceback of the stage that failed, if one did."""
        paths = [stage.folder / "error.txt" for stage in self.stages]
        return next((path.read_text() for path in paths if path.is_file()), None)


def read_run_lists(out: Path) -> dict[str, dict[str, Any]]:
    """{study: its list, with `runs` as ListedRun} of every study in an OUT folder."""
    lists = {}
    for path in sorted(out.glob("*/runs.json")):
        kept = read_json_object(path)
        lists[path.parent.name] = {**kept, "runs": [ListedRun(out, facts) for facts in kept["runs"]]}
    return lists
