"""Looks at a method every so many steps: does its code still say something? If not, warns and then stops."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pixelglobal.config.schema import Pretrain
from pixelglobal.methods.base import Method
from pixelglobal.methods.collapse import UNIFORM_NATS, Verdict, encoder_verdict, verdict
from pixelglobal.training.runs import Run, TrainingStopped
from pixelglobal.training.workers import mean_over_workers
from pixelglobal.views.pairs import ViewPair

COLLAPSED_BEFORE_STOP = 3  # measures in a row


@dataclass
class CollapseWatch:
    """Measures, averaged over all workers so that they decide alike, and what was decided of them."""

    run: Run
    settings: Pretrain
    warmup_steps: float
    _collapsed: dict[str, int] = field(default_factory=dict)
    _uniform: dict[str, int] = field(default_factory=dict)
    _first_spread: dict[str, float] = field(default_factory=dict)

    def state(self) -> dict[str, dict[str, Any]]:
        """What a resumed run must know: how many measures in a row were bad, and the first ones."""
        return {"collapsed": self._collapsed, "uniform": self._uniform, "first_spread": self._first_spread}

    def resume(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on from a `state`."""
        self._collapsed, self._uniform = dict(state["collapsed"]), dict(state["uniform"])
        self._first_spread = dict(state["first_spread"])

    def is_due(self, step: int) -> bool:
        """Whether to look after this step."""
        every = self.settings.measure_every_steps
        return every > 0 and (step + 1) % every == 0

    def look(self, method: Method, pair: ViewPair, step: int, generator: torch.Generator) -> dict[str, float]:
        """The measures of every head, named `information_pixel` and so on.

        After the warm-up a collapsed head is warned of, and raises TrainingStopped when it stays collapsed and
        `pretrain.on_collapse` is "stop".
        """
        of_this_worker: dict[str, float] = {}
        for head, measured in method.measures(pair, generator).items():
            values = torch.stack([value.float() for value in measured.values.values()]).tolist()  # one transfer
            of_this_worker |= {f"{head}/{name}": value for name, value in zip(measured.values, values, strict=True)}
            of_this_worker |= {f"{head}/n": float(measured.n), f"{head}/k": float(measured.k)}
        heads: dict[str, dict[str, float]] = {}
        for key, value in mean_over_workers(of_this_worker, self.run.world_size).items():
            head, name = key.split("/")
            heads.setdefault(head, {})[name] = value
        lines: dict[str, float] = {}
        for head, mean in heads.items():
            n, k = round(mean.pop("n")), round(mean.pop("k"))
            self._first_spread.setdefault(head, mean["spread"])
            if step >= self.warmup_steps:
                self._judge(method, head, mean, n, k, step)
            lines |= {f"{name}_{head}": round(value, 5) for name, value in mean.items()}
            lines[f"collapsed_{head}"] = self._collapsed.get(head, 0)  # looks in a row
        return lines

    def _judge(self, method: Method, head: str, values: dict[str, float], n: int, k: int, step: int) -> None:
        verdict_of_head = self._verdict(head, values, n, k)
        self._collapsed[head] = self._collapsed.get(head, 0) + 1 if verdict_of_head.state == "collapsed" else 0
        if verdict_of_head.state != "healthy" and self.run.rank == 0:
            warnings.warn(f"step {step}: {_words(head)}: {verdict_of_head.reason}", stacklevel=2)
        if self._collapsed[head] >= COLLAPSED_BEFORE_STOP and self.settings.on_collapse == "stop":
            raise TrainingStopped(_stopped(head, verdict_of_head, step, method.advice(head)))

    def _verdict(self, head: str, values: dict[str, float], n: int, k: int) -> Verdict:
        if "information" not in values:  # an encoder has no codes
            return encoder_verdict(values["spread"], self._first_spread[head])
        uniform = abs(1 - values["cross_entropy_over_ln_k"]) < UNIFORM_NATS / math.log(k)
        self._uniform[head] = self._uniform.get(head, 0) + 1 if uniform else 0
        return verdict(values, n=n, k=k, uniform_in_a_row=self._uniform[head])


def collapsed_heads(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """The heads that were collapsed when the watch looked last, from the lines of a pre-training's metrics."""
    looks = [line for line in metrics if any(name.startswith("collapsed_") for name in line)]
    last = looks[-1] if looks else {}
    return [name.removeprefix("collapsed_") for name, n in last.items() if name.startswith("collapsed_") and n > 0]


def _stopped(head: str, verdict_of_head: Verdict, step: int, ways: Sequence[str]) -> str:
    return (
        f"{_words(head)} has collapsed by step {step}: {verdict_of_head.reason}. The last checkpoint is kept. To fix "
        f"it, {', or '.join(ways)}; to continue all the same, give pretrain.on_collapse=warn"
    )


def _words(head: str) -> str:
    return "the encoder" if head == "encoder" else f"the {head} head"
