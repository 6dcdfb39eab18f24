"""What the runs of a study are made of: the config of a method, names of cohorts, numbers of labelled patients."""

from __future__ import annotations

from collections.abc import Sequence

from pixelglobal.config.overrides import from_dict, variant, with_settings
from pixelglobal.config.registry import METHODS, variants
from pixelglobal.config.schema import Config
from pixelglobal.data.pool import distinct_names
from pixelglobal.data.store import Store

WITHOUT_PRETRAINING = ("random", "imagenet")  # random weights, or those of network.weights


def known_methods() -> tuple[str, ...]:
    """Names of methods that every study knows, besides module:Class."""
    return (*WITHOUT_PRETRAINING, *variants())


def method_config(config: Config, method: str) -> Config:
    """The config of a method: random weights, a file's, a variant of ours (go, gp, gpc, full), another's, module:Class.

    All share `pretrain.*`: the same encoder, slices, steps and optimiser. Raises ValueError for an unknown name,
    and for `imagenet` without a file.
    """
    if method != config.pretrain.method:
        config = _of_the_library(config)
    if method in variants():
        return variant(config, method)
    if method in WITHOUT_PRETRAINING:
        if method == "imagenet" and config.network.weights is None:
            raise ValueError(
                f"method imagenet starts from a file: give network.weights=FILE.safetensors with the weights of "
                f"{config.network.encoder}"
            )
        weights = config.network.weights if method == "imagenet" else None
        return with_settings(config, pretrain={"method": "pixel_global"}, network={"weights": weights})
    if ":" in method:
        return with_settings(config, pretrain={"method": method})
    raise ValueError(f"unknown method {method!r}: choose from {', '.join(known_methods())}, or module:Class")


def _of_the_library(config: Config) -> Config:
    """The same settings without a method from outside, whose section no other method knows."""
    if config.method_section in METHODS:
        return config
    values = config.model_dump(mode="json")
    del values[config.method_section]
    values["pretrain"]["method"] = "pixel_global"
    return from_dict(values)


def tested_cohorts(stores: Sequence[Store], test_stores: Sequence[Store]) -> list[tuple[Store, str, Store | None]]:
    """What a study tests: (the store that is trained on, the name of the tested cohort, its store if it is external).

    A store without test patients is only trained on. An external store goes with every store of the same structures.
    Raises ValueError if it goes with none.
    """
    names = distinct_names([*stores, *test_stores])
    own, external = names[: len(stores)], names[len(stores) :]
    cohorts: list[tuple[Store, str, Store | None]] = [
        (store, name, None) for store, name in zip(stores, own, strict=True) if not external or store.splits.test
    ]
    for test_store, name in zip(test_stores, external, strict=True):
        matching = [pair for pair in zip(stores, own, strict=True) if pair[0].structures == test_store.structures]
        if not matching:
            known = "; ".join(f"{store.root} has {', '.join(store.structures)}" for store in stores)
            raise ValueError(
                f"{test_store.root} has the structures {', '.join(test_store.structures)}, which no --store has in "
                f"this order ({known}); a model can be tested on the structures that it has learnt"
            )
        cohorts += [(store, f"{name} after {trained}", test_store) for store, trained in matching]
    return cohorts


def labelled_patients(store: Store, fractions: Sequence[float]) -> list[int]:
    """How many training patients the fractions stand for, at least one each, without repetition.

    Raises ValueError for a fraction that is not in (0, 1].
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"--fractions {fraction:g}: a share of the training patients is above 0 and at most 1")
    if not fractions:
        return []
    total = store.cases[store.cases["case"].isin(store.splits.train)]["patient"].nunique()
    return sorted({max(1, round(fraction * total)) for fraction in fractions})
