"""Files of the program with anything in them: each is read, or refused in one sentence that names the file."""

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.runner.stages import Stage
from pixelglobal.data.store import Store
from pixelglobal.tables.read_rows import read_rows
from pixelglobal.training.checkpoints import newest_intact_state, read_model, save_model, save_training_state
from tests.fuzz import JSON, refused_by_name

pytestmark = pytest.mark.slow

EXAMPLES = settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(content, changes):
    """Bytes with some of them replaced, by place (modulo the length) and value."""
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    return bytes(damaged)


BYTES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def copy(store, tmp_path_factory):
    """A store without digests, as one that was edited on purpose."""
    root = shutil.copytree(store.root, tmp_path_factory.mktemp("copy") / "store")
    (root / "SHA256SUMS").unlink()
    return root


def read_all(root):
    """Everything that the files of a store say of its cohort."""
    store = Store.open(root)
    for case in [*store.splits.train, *store.splits.test]:
        store.spacing_mm(case), store.contoured(case), store.affine(case), store.fingerprint(case)
    return store.normalization(store.splits.pretrain), store.dice_ceiling, store.notes


@EXAMPLES
@given(st.sampled_from(["cohort.json", "splits.json", "notes.json"]), st.data())
def test_any_json_of_a_store(copy, name, data):
    path, before = copy / name, (copy / name).read_text()
    facts = json.loads(before)
    facts[data.draw(st.sampled_from(sorted(facts)))] = data.draw(JSON)
    path.write_text(json.dumps(data.draw(st.just(facts) | JSON)))
    try:
        with refused_by_name(copy):
            read_all(copy)
    finally:
        path.write_text(before)


@EXAMPLES
@given(st.sampled_from(["cohort.json", "splits.json", "cases.csv", "fingerprints/phantom_000.npy"]), BYTES)
def test_any_bytes_in_a_store(copy, name, changes):
    path, before = copy / name, (copy / name).read_bytes()
    path.write_bytes(changed(before, changes))
    try:
        with refused_by_name(copy):
            read_all(copy)
    finally:
        path.write_bytes(before)


@EXAMPLES
@given(st.fixed_dictionaries({"name": st.just("pretrain-0")}, optional={"bytes": JSON, "sha256": JSON, "seconds": JSON})
       | JSON, st.dictionaries(st.sampled_from(["host", "pid", "thread"]), JSON) | JSON)  # fmt: skip
def test_any_mark_and_lock_of_a_stage(tmp_path, mark, lock):
    stage = Stage("pretrain", tmp_path / "pretrain-0", {})
    stage.folder.mkdir(exist_ok=True)
    (stage.folder / "done.json").write_text(json.dumps(mark))
    (stage.folder / "lock.json").write_text(json.dumps(lock))
    with refused_by_name(stage.folder):
        assert not stage.is_complete or isinstance(stage.seconds, float)
        assert stage.is_running in (True, False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a training state and a model of a layer."""
    folder, layer = tmp_path_factory.mktemp("trained"), torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    save_training_state(folder / "checkpoints/step_00000001", {"layer": layer}, optimizer, {"step": 1})
    save_model(folder / "model", {"layer": layer}, {"kind": "segmenter"})
    return folder


@EXAMPLES
@given(st.sampled_from(["state.json", "state.safetensors", "SHA256SUMS"]), BYTES)
def test_any_bytes_in_a_training_state(trained, name, changes):
    path = trained / "checkpoints/step_00000001" / name
    before = path.read_bytes()
    path.write_bytes(changed(before, changes))
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = newest_intact_state(path.parent.parent)
        assert (found is None) == (len(told) == 1)
        assert found is None or path.read_bytes() == before or name == "SHA256SUMS"
    finally:
        path.write_bytes(before)


@EXAMPLES
@given(st.sampled_from(["model.json", "model.safetensors"]), BYTES)
def test_any_bytes_in_a_model(trained, name, changes):
    path = trained / "model" / name
    before = path.read_bytes()
    path.write_bytes(changed(before, changes))
    try:
        with refused_by_name(path.parent):
            tensors, _ = read_model(path.parent)
            assert name == "model.json" or path.read_bytes() == before
            assert set(tensors) == {"layer.weight", "layer.bias"}
    finally:
        path.write_bytes(before)


CELL = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["a", "Liver", "", "1", "yes"])
COLUMNS = ("method", "case", "structure", "dice", "seed", "patient", "contoured", "hausdorff_mm", "slice_index", "fold")


@EXAMPLES
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, CELL)), max_size=4), st.booleans())
def test_any_rows(tmp_path, lines, as_csv):
    path = tmp_path / ("rows.csv" if as_csv else "rows.parquet")
    frame = pd.DataFrame(lines)
    if as_csv:
        frame.to_csv(path, index=False)
    else:
        frame.astype({c: str for c in frame if frame[c].map(type).nunique() > 1}).to_parquet(path)
    with refused_by_name(path):
        rows = read_rows([path])
        assert np.isin(rows["contoured"], (True, False)).all()
