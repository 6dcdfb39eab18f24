"""What a study will compute, what is there already, and what the rest costs: before anything is trained.

A stage's cost is the mean of finished stages that did the same work with other seeds, else measured here and now on a
few steps (`calibration`) and remembered in OUT/calibration.json.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from experiments import FOLDER
from experiments.runner.calibration import Cost, measure
from experiments.runner.pipeline import Pipeline
from experiments.runner.stages import Stage
from pixelglobal.cluster.resources import gpus_each, resources_without_starting, trials_at_once
from pixelglobal.config.schema import Config
from pixelglobal.files import write_json

KINDS = ("pretrain", "finetune", "evaluate")


# What does not change how much work a stage is.
WITHOUT_WEIGHT = {"seed", "pretrained", "teacher", "finetuned"}


@dataclass
class Line:
    """Stages that are the same work with other seeds or other weights to begin with."""

    kind: str
    methods: list[str]
    cohort: str
    new: int = 0
    cached: int = 0
    shared: int = 0  # of both, those that more than one run needs
    seconds: float = 0.0  # of all new ones, one after the other
    memory_mib: float = 0.0  # of one worker
    disk_mib: float = 0.0  # that all new ones keep
    known_from: str = ""


@dataclass(frozen=True)
class Plan:
    """Lines, and what they add up to."""

    lines: tuple[Line, ...]
    seconds: dict[str, float]  # estimated, of each new stage by name
    device: str  # what an hour is an hour of
    device_hours: float
    wall_hours: float
    trials_at_once: dict[str, int]

    def price(self, per_hour: float) -> float:
        """Of all device hours."""
        return self.device_hours * per_hour

    def save(self, path: Path) -> None:
        """Keep the plan, so that a report can hold it against what happened; earlier estimates of other stages stay."""
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(path.read_text())["seconds"] if path.is_file() else {}
        values = asdict(self) | {"seconds": {**earlier, **self.seconds}}
        write_json(path, values)


def make_plan(pipelines: Sequence[Pipeline], out: Path, *, calibrate: bool = True) -> Plan:
    """The plan of some runs; nothing is trained but the few steps of a calibration.

    calibrate=False leaves the cost of work that never ran here unknown (NaN). Raises ValueError if the machine, or the
    cluster of RAY_ADDRESS, can never hold one trial.
    """
    config = pipelines[0].run.config
    needed: dict[str, tuple[Stage, Pipeline]] = {}
    users: dict[str, int] = {}
    for pipeline in pipelines:
        for stage in pipeline.stages:
            needed.setdefault(stage.name, (stage, pipeline))
            users[stage.name] = users.get(stage.name, 0) + 1
    costs = _costs([pair for pair in needed.values() if not pair[0].is_complete], out, calibrate)
    lines: dict[str, Line] = {}
    seconds: dict[str, float] = {}
    for stage, pipeline in needed.values():
        run = pipeline.run
        line = lines.setdefault(workload(stage), Line(stage.kind, [], run.cohort))
        if run.method not in line.methods:
            line.methods.append(run.method)
        line.shared += users[stage.name] > 1
        if stage.is_complete:
            line.cached += 1
            continue
        cost = costs[workload(stage)]
        line.new += 1
        line.seconds += cost.seconds
        line.memory_mib, line.known_from = cost.memory_mib, cost.known_from
        line.disk_mib += cost.disk_mib
        seconds[stage.name] = cost.seconds
    return _summed(sorted(lines.values(), key=lambda line: KINDS.index(line.kind)), seconds, config)


def _summed(lines: Sequence[Line], seconds: dict[str, float], config: Config) -> Plan:
    cluster, room = config.cluster, resources_without_starting([FOLDER])
    workers = {"pretrain": cluster.pretrain_workers, "finetune": cluster.finetune_workers, "evaluate": 0}
    at_once = {kind: trials_at_once(config, workers[kind], room) for kind in KINDS[:2]}
    gpus = gpus_each(config, room)
    device_hours = wall_hours = 0.0
    for kind in KINDS:
        own = [line for line in lines if line.kind == kind and line.new]
        total, count = sum(line.seconds for line in own) / 3600, sum(line.new for line in own)
        device_hours += total * max(1, workers[kind]) * (gpus or cluster.cpus_per_worker)
        wall_hours += total / max(1, min(at_once[KINDS[min(1, KINDS.index(kind))]], count))
    device = "GPU" if gpus else "CPU core"
    return Plan(tuple(lines), seconds, device, device_hours, wall_hours, at_once)


def _costs(wanted: Sequence[tuple[Stage, Pipeline]], out: Path, calibrate: bool) -> dict[str, Cost]:
    """The cost of each kind of work."""
    finished = _finished(out)
    memory = out / "calibration.json"
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    known = json.loads(memory.read_text()) if memory.is_file() else {}
    measured = {key: Cost(**value) for key, value in known.get(device, {}).items()}
    costs: dict[str, Cost] = {}
    for stage, pipeline in wanted:
        key = workload(stage)
        if key in costs:
            continue
        if key not in measured and key not in finished and calibrate:
            found = measure(pipeline, stage)
            measured |= {workload(s): found[s.kind] for s in pipeline.stages if s.kind in found}
        unknown = Cost(float("nan"), float("nan"), float("nan"), "unknown: not calibrated")
        costs[key] = measured.get(key, unknown)
        if key in finished:
            past = finished[key]
            mean, size = sum(s for s, _ in past) / len(past), sum(d for _, d in past) / len(past)
            costs[key] = Cost(mean, costs[key].memory_mib, size, f"{len(past)} finished like it")
    if measured:
        out.mkdir(parents=True, exist_ok=True)
        known[device] = {key: cost.to_dict() for key, cost in measured.items()}
        write_json(memory, known)
    return costs


def _finished(out: Path) -> dict[str, list[tuple[float, float]]]:
    """Seconds and MiB of the finished stages, by their workload."""
    found: dict[str, list[tuple[float, float]]] = {}
    for mark in sorted(out.glob("stages/*/done.json")):
        folder = mark.parent
        facts = json.loads((folder / "stage.json").read_text())
        stage = Stage(facts["kind"], folder, facts)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
        found.setdefault(workload(stage), []).append((stage.seconds, size))
    return found


def workload(stage: Stage) -> str:
    """A hash of what makes a stage's work: its settings and data, not its seed or where its weights come from."""
    facts = {key: value for key, value in stage.facts.items() if key not in WITHOUT_WEIGHT}
    if stage.kind == "finetune" and facts["finetune"]["steps_per_epoch"]:
        facts.pop("train")  # which patients, does not matter: the steps are counted
    text = json.dumps(facts, sort_keys=True)
    return f"{stage.kind}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def show_plan(plan: Plan, console: Console, price_per_hour: float | None = None) -> None:
    """Print a plan for people."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(("stage", "method", "new", "done", "shared", "hours", "disk", "memory", "known from")):
        table.add_column(column, justify="right" if 2 <= i <= 7 else "left")
    several = len({line.cohort for line in plan.lines}) > 1
    for line in plan.lines:
        cost = ("", "", "", "")
        if line.new:
            cost = (_number(line.seconds / 3600), f"{_number(line.disk_mib)} MiB", f"{_number(line.memory_mib)} MiB",
                    line.known_from)  # fmt: skip
        method = ", ".join(line.methods) if len(line.methods) < 4 else f"{len(line.methods)} methods"
        method += f" on {line.cohort}" if several else ""
        table.add_row(line.kind, method, str(line.new), str(line.cached), str(line.shared), *cost)
    console.print(table)
    new, cached = sum(line.new for line in plan.lines), sum(line.cached for line in plan.lines)
    if not new:
        console.print(f"All {cached} stages are done: running this costs nothing.", highlight=False)
        return
    price = f"; {plan.price(price_per_hour):.2f} at {price_per_hour:g} an hour" if price_per_hour is not None else ""
    console.print(
        f"{new} new stages, {cached} done: at most {_number(plan.device_hours)} {plan.device} hours{price}; about "
        f"{_number(plan.wall_hours)} hours by the clock with {plan.trials_at_once['pretrain']} pre-trainings and "
        f"{plan.trials_at_once['finetune']} fine-tunings at once; "
        f"{_number(sum(line.disk_mib for line in plan.lines if line.new))} MiB of disk are kept.",
        highlight=False,
        soft_wrap=True,
    )


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def against_actual(path: Path, stages: Mapping[str, Stage]) -> dict[str, str]:
    """A plan that was saved, held against the stages that have finished since: a sentence for each kind."""
    if not path.is_file():
        return {}
    planned: dict[str, float] = json.loads(path.read_text())["seconds"]
    said = {}
    for kind in KINDS:
        ended = [n for n in planned if n.startswith(kind) and n in stages and stages[n].is_complete]
        estimate, actual = sum(planned[n] for n in ended), sum(stages[n].seconds for n in ended)
        if ended and estimate > 0:
            said[kind] = (
                f"{len(ended)} of {sum(n.startswith(kind) for n in planned)} planned stages have finished: estimated "
                f"{estimate / 3600:.3g} h, took {actual / 3600:.3g} h ({actual / estimate:.2f} x)"
            )
    return said
