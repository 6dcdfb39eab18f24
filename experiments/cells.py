"""Names of methods to cells: what a study's grid is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments.grid import Cell
from pixelglobal.config import Config, from_dict, variant, with_settings
from pixelglobal.presets import VARIANTS
from pixelglobal.sections import METHOD_SECTIONS

OTHERS = tuple(name for name in METHOD_SECTIONS if name != "pixel_global")  # gl, pgl and their ancestors
KNOWN = ("random", *VARIANTS, *OTHERS)


def method_config(config: Config, method: str) -> Config:
    """The config of a method: random weights, a variant of ours (go, gp, gpc, full) or another's.

    All share `pretrain.*`: the same encoder, slices, steps and optimiser. Raises ValueError for an unknown name.
    """
    if method not in KNOWN:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(KNOWN)}")
    if method in VARIANTS:
        return variant(config, method)
    return config if method == "random" else with_settings(config, pretrain={"method": method})


def grid_of(
    study: str,
    config: Config,
    *,
    seeds: Sequence[int],
    methods: Sequence[str],
    configs: Mapping[str, Callable[[Config], Config]] | None = None,
) -> list[Cell]:
    """One cell for each method and seed; `configs` gives the methods that only this study knows."""
    own = configs or {}
    cells = []
    for method in methods:
        base = own[method](config) if method in own else method_config(config, method)
        for seed in seeds:
            seeded = from_dict({**base.model_dump(mode="json"), "seed": seed})
            cells.append(Cell(study, method, seeded, pretrained=method != "random"))
    return cells
