"""Names of methods to cells: what a study's grid is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments.runner.runs import Cell
from pixelglobal.config.method_sections import METHOD_SECTIONS
from pixelglobal.config.overrides import from_dict, variant
from pixelglobal.config.presets import VARIANTS
from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store

OTHERS = tuple(name for name in METHOD_SECTIONS if name != "pixel_global")  # gl, pgl and their ancestors


KNOWN = ("random", *VARIANTS, *OTHERS)


def method_config(config: Config, method: str) -> Config:
    """The config of a method: random weights, a variant of ours (go, gp, gpc, full), another's, or module:Class.

    All share `pretrain.*`: the same encoder, slices, steps and optimiser. Raises ValueError for an unknown name.
    """
    if method not in KNOWN and ":" not in method:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(KNOWN)}, or module:Class")
    values = config.model_dump(mode="json")
    values["pretrain"]["method"] = "pixel_global" if method in VARIANTS or method == "random" else method
    if ":" not in method:
        values["own"] = {}  # the settings of a module:Class
    made = from_dict(values)
    return variant(made, method) if method in VARIANTS else made


def grid_of(
    study: str,
    config: Config,
    *,
    stores: Sequence[Store],
    seeds: Sequence[int],
    methods: Sequence[str],
    configs: Mapping[str, Callable[[Config], Config]] | None = None,
) -> list[Cell]:
    """One cell for each cohort, method and seed; `configs` gives the methods that only this study knows."""
    own = configs or {}
    cells = []
    for store, cohort in zip(stores, cohort_names(stores), strict=True):
        for method in methods:
            base = own[method](config) if method in own else method_config(config, method)
            for seed in seeds:
                seeded = from_dict({**base.model_dump(mode="json"), "seed": seed})
                cells.append(Cell(study, method, seeded, method != "random", store, cohort))
    return cells


def cohort_names(stores: Sequence[Store]) -> list[str]:
    """The name of each store's cohort, with the store's folder where two would be the same."""
    names = [store.name for store in stores]
    return [n if names.count(n) == 1 else f"{n} {store.root.name}" for n, store in zip(names, stores, strict=True)]
