"""Which settings move the address of which pre-training: those that its method reads, and no others."""

import json
import shutil
import types
from dataclasses import fields
from typing import Literal, Union, get_args, get_origin

import nibabel as nib
import numpy as np
import pytest

from experiments.runner.stages import content_of, pretrain_stage, scans_of
from experiments.studies.grid import method_config
from pixelglobal import config as settings
from pixelglobal.config.registry import METHODS, variants
from pixelglobal.data.prepare import prepare

READ_BY_EVERY_METHOD = ("views", "network", "pretrain")
WITHOUT_EFFECT = {
    "network.weights",
    "pretrain.source_weights",  # of a pool, where it is a part of the slices
    "pretrain.compile",
    "pretrain.log_every_steps",
    "pretrain.measure_every_steps",
    "pretrain.on_collapse",
    "pretrain.checkpoints_to_keep",
    "pixel_global.checkpoint_pixel_head",
    "restore_full.checkpoint_pixel_head",
}
OF_THE_CLUSTER = {"cluster.pretrain_workers"}  # each has slices of its own
# A value that needs another one beside it, and what cannot be changed at all while the method stays what it is.
TOGETHER = {
    "pixel_global.pixel_matching": {"stabilizer": "off", "uncertainty_weighting": False},
    "restore_full.pixel_matching": {"stabilizer": "off", "uncertainty_weighting": False},
    "finetune.validate_every_epochs": {"patience_epochs": 5},
}
OTHER_VALUES = {
    "views.crop_size": 64,
    "prepare.image_size": 64,
    "network.encoder": "resnet14t",
    "network.decoder_widths": [16, 16, 8, 8, 4],
    "pretrain.batch_size": 6,
    "pixel_global.dropout_sites": ["bottleneck"],
    "restore_full.dropout_sites": ["bottleneck"],
    "gl.crop_area_max": 0.5,
    "prepare.split_file": "splits.json",
    "prepare.in_plane_spacing_mm": 4.0,
    "cluster.pretrain_workers": 2,
    "prepare.fix": ("header",),
}


def another(name, field, value):
    """A valid value of a setting that is not its own."""
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != value)
    if kind is bool:
        return not value
    if kind is int:
        return 1 if value is None else value + 1
    if kind is str:
        return "another"
    if get_origin(kind) is tuple:
        return () if value else ("another",)
    if value is None:
        return 1.0
    return value * 0.9 if value else 0.1


def settings_of(config, method):
    """(section, name, its change) of all settings but the method's name; one of each other method's section."""
    sections = {name: getattr(config, name) for name in type(config).model_fields if name not in ("seed", "methods")}
    for section, values in {**sections, **config.methods}.items():
        fields = list(type(values).model_fields.items())
        for name, field in fields[:1] if section in config.methods and section != method else fields:
            full = f"{section}.{name}"
            if full != "pretrain.method":
                yield section, full, {name: another(full, field, getattr(values, name)), **TOGETHER.get(full, {})}


@pytest.mark.parametrize("method", METHODS)
def test_a_pre_training_moves_with_what_its_method_reads_alone(tiny, store, tmp_path, method):
    config = settings.with_settings(tiny, pretrain={"method": method}, cluster={"pretrain_workers": 1})
    before, changed = pretrain_stage(tmp_path, config, store).name, 0
    for section, name, change in settings_of(config, method):
        after = pretrain_stage(tmp_path, settings.with_settings(config, **{section: change}), store).name
        reads = section in (*READ_BY_EVERY_METHOD, method) and name not in WITHOUT_EFFECT
        assert (after != before) == (reads or name in OF_THE_CLUSTER), f"{method}: {name} -> {change}"
        changed += 1
    assert changed > 100
    assert pretrain_stage(tmp_path, settings.with_settings(config, seed=1), store).name != before


def test_every_method_of_a_study_has_an_address_of_its_own(tiny, store, tmp_path):
    names = [pretrain_stage(tmp_path, method_config(tiny, name), store).name for name in variants()]
    assert len(set(names)) == len(names) >= 7 + len(METHODS) - 1


def test_cohorts_of_the_same_scans_share_a_pre_training(tiny, phantom_folder, store, tmp_path):
    """Other structures, other labels and other names of scans: the slices are the same, and so is the address."""
    other = tmp_path / "other"
    shutil.copytree(phantom_folder, other)
    facts = json.loads((other / "dataset.json").read_text())
    for entry in facts["training"]:
        for file in ("image", "label"):
            path = other / entry[file]
            entry[file] = str(path.rename(path.with_name(f"scan_{path.name}")).relative_to(other))
    facts["unlabelled"] = [
        str(path.rename(path.with_name(f"scan_{path.name}")).relative_to(other))
        for path in (other / name for name in facts["unlabelled"])
    ]
    labels = nib.load(other / facts["training"][0]["label"])
    nib.save(nib.Nifti1Image(np.zeros(labels.shape, np.uint8), labels.affine), other / facts["training"][0]["label"])
    names = {str(i): f"organ{i}" for i in range(1, len(store.structures) + 1)}
    facts["patients"] = {f"scan_{case}": patient for case, patient in facts.get("patients", {}).items()}
    facts |= {"name": "Elsewhere", "labels": {"0": "background", **names}, "left_right_pairs": []}
    (other / "dataset.json").write_text(json.dumps(facts))
    again = prepare(other, tmp_path / "again", tiny.prepare).store
    assert again.structures != store.structures
    assert set(again.cases["case"]).isdisjoint(store.cases["case"])
    assert scans_of(again, again.splits.pretrain) == scans_of(store, store.splits.pretrain)
    assert content_of(again, again.splits.train) != content_of(store, store.splits.train)
    assert scans_of(again, again.splits.pretrain[1:]) != scans_of(store, store.splits.pretrain)
    assert pretrain_stage(tmp_path, tiny, again).name == pretrain_stage(tmp_path, tiny, store).name


def test_which_scans_are_of_one_patient_is_part_of_an_address(store):
    """Partners are slices of different patients."""
    before = scans_of(store, store.splits.pretrain)
    together = type(store)(**{field.name: getattr(store, field.name) for field in fields(store)})
    together.__dict__["cases"] = store.cases.assign(patient="one")
    assert scans_of(together, store.splits.pretrain) != before
