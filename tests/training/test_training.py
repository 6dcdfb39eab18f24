"""The loops: they learn, resume bit for bit, share work over workers, and stop with a reason."""

import dataclasses
import json
import math
import os
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from pixelglobal import config as settings
from pixelglobal.data.store import Store
from pixelglobal.data.stream import LocalStream
from pixelglobal.evaluation.evaluate import evaluate
from pixelglobal.evaluation.uncertainty_maps import uncertainty_maps, write_uncertainty
from pixelglobal.methods.pixel_global import PixelGlobal
from pixelglobal.training import finetune as fine_tuning
from pixelglobal.training import pretrain as pretraining
from pixelglobal.training.checkpoints import read_model, training_states
from pixelglobal.training.finetune import finetune, validation_dice
from pixelglobal.training.initial_segmenter import initial_segmenter
from pixelglobal.training.labelled import choose_patients, class_frequencies, training_slices
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, TrainingStopped, read_metrics
from pixelglobal.training.workers import mean_over_workers
from tests.support import Killed, RunKilledAfter

CPU = torch.device("cpu")


def stream_of(config, store):
    return LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=config.seed)


def pretrained(config, store, run):
    return pretrain(config, store, stream_of(config, store), run, CPU)


def finetuned(config, store, run, start=None):
    return finetune(
        config,
        store,
        run,
        CPU,
        pretrained=start,
        train_cases=store.splits.train,
        validation_cases=store.splits.validation,
    )


@pytest.fixture(scope="module")
def model(tiny, store, tmp_path_factory):
    return pretrained(tiny, store, LocalRun(tmp_path_factory.mktemp("pre")))


def same(a, b):
    one, two = read_model(a)[0], read_model(b)[0]
    assert one.keys() == two.keys()
    return all(torch.equal(one[key], two[key]) for key in one)


def lines_of(folder):
    """The metrics of a run, without what depends on the machine."""
    clocks = {"seconds", "seconds_per_step", "slices_per_second", "data_wait", "time"}
    return [{key: value for key, value in line.items() if key not in clocks} for line in read_metrics(folder)]


def test_a_killed_and_resumed_pretraining_equals_an_uninterrupted_one(tiny, store, model, tmp_path):
    """Killed in mid-epoch, twice; an epoch has three steps."""
    for steps in (2, 4):
        with pytest.raises(Killed):
            pretrained(tiny, store, RunKilledAfter(tmp_path, steps))
    assert not (tmp_path / "model").exists()
    assert same(pretrained(tiny, store, LocalRun(tmp_path)), model)
    assert lines_of(tmp_path) == lines_of(model.parent)
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(6))


def test_a_killed_and_resumed_finetuning_equals_an_uninterrupted_one(tiny, store, model, tmp_path):
    for steps in (2, 4):
        with pytest.raises(Killed):
            finetuned(tiny, store, RunKilledAfter(tmp_path / "killed", steps), model)
    resumed = finetuned(tiny, store, LocalRun(tmp_path / "killed"), model)
    whole = finetuned(tiny, store, LocalRun(tmp_path / "whole"), model)
    assert same(resumed, whole)
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "killed")


def test_a_state_is_kept_by_the_clock_and_at_the_end(tiny, store, model, tmp_path):
    """Not in every epoch: those of the paper take hours."""
    assert [path.name for path in training_states(model.parent / "checkpoints")] == ["step_00000006"]
    pretrained(tiny, store, LocalRun(tmp_path, checkpoints_to_keep=9, checkpoint_minutes=0))
    assert [path.name for path in training_states(tmp_path / "checkpoints")] == [
        f"step_0000000{i}" for i in range(1, 7)
    ]


@pytest.mark.parametrize("harm", ["cut", "a bit", "facts"])
def test_a_damaged_state_is_named_and_the_one_before_is_used(tiny, store, model, tmp_path, harm):
    with pytest.raises(Killed):
        pretrained(tiny, store, RunKilledAfter(tmp_path, 4))
    newest = training_states(tmp_path / "checkpoints")[-1]
    path = newest / ("state.json" if harm == "facts" else "state.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:1000] if harm == "cut" else content)
    with pytest.warns(UserWarning, match=rf"the checkpoint .*step_00000004 is damaged \({path.name} changed"):
        assert same(pretrained(tiny, store, LocalRun(tmp_path)), model)
    assert lines_of(tmp_path) == lines_of(model.parent)


def test_another_seed_gives_another_model(tiny, store, model, tmp_path):
    other = settings.from_dict({**tiny.model_dump(mode="json"), "seed": 1})
    assert not same(pretrained(other, store, LocalRun(tmp_path)), model)


def test_the_log_and_the_exported_facts(tiny, store, model):
    lines = read_metrics(model.parent)
    assert {"loss", "loss_global", "loss_pixel", "cross_entropy_pixel", "uncertainty", "learning_rate"} <= lines[
        0
    ].keys()
    assert settings.load(model.parent / "config.json") == tiny
    facts = read_model(model)[1]
    assert set(facts["cases_seen"]) == set(store.splits.pretrain)
    assert facts["scale"]["mean_hu"] == pytest.approx(store.normalization(store.splits.pretrain).mean_hu)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_on_the_cpu(tiny, store, tmp_path, precision):
    config = settings.with_settings(
        tiny, pretrain={"precision": precision, "epochs": 1}, finetune={"precision": precision, "epochs": 1}
    )
    start = pretrained(config, store, LocalRun(tmp_path / "p"))
    finetuned(config, store, LocalRun(tmp_path / "f"), start)
    assert all(torch.isfinite(t.float()).all() for t in read_model(tmp_path / "f" / "model")[0].values())


@pytest.mark.slow
def test_a_compiled_run_begins_as_the_same_run(tiny, store, model, tmp_path):
    """Only its first steps: a change of 1e-6 in the first weights is one of 3 % in the loss three steps later."""
    compiled = pretrained(settings.with_settings(tiny, pretrain={"compile": True}), store, LocalRun(tmp_path))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2  # encoder and decoder
    assert read_model(compiled)[0].keys() == read_model(model)[0].keys()
    losses = [[line["loss"] for line in read_metrics(folder)][:2] for folder in (model.parent, tmp_path)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def spoil(monkeypatch, step, change):
    """Change the loss of a step of the paper's method."""
    real, calls = PixelGlobal.losses, iter(range(100))

    def losses(self, pair, generator):
        terms = real(self, pair, generator)
        return {**terms, "loss": change(terms["loss"])} if next(calls) == step else terms

    monkeypatch.setattr(PixelGlobal, "losses", losses)


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_slices(tiny, store, tmp_path, monkeypatch):
    spoil(monkeypatch, 4, lambda loss: loss * float("nan"))
    with pytest.raises(
        TrainingStopped, match=r"loss is not finite at step 4: loss_global=.*Slices of this batch: phantom_\d+\[\d\]"
    ):
        pretrained(tiny, store, LocalRun(tmp_path, checkpoint_minutes=0))
    assert training_states(tmp_path / "checkpoints")[-1].name == "step_00000004"  # what was good is kept


@pytest.mark.parametrize("step", [3, 5])
def test_a_gradient_that_is_not_finite_stops_before_the_state_is_kept(tiny, store, tmp_path, monkeypatch, step):
    """Also in the last step, after which no loss would show it."""
    spoil(monkeypatch, step, lambda loss: loss + (loss * 0).sqrt())  # 0, whose derivative is infinite
    with pytest.raises(TrainingStopped, match=f"the gradient is not finite at step {step}: .*gradient_norm=nan"):
        pretrained(tiny, store, LocalRun(tmp_path, checkpoint_minutes=0))
    assert training_states(tmp_path / "checkpoints")[-1].name == f"step_0000000{step}"
    assert not (tmp_path / "model").exists()


def test_a_fine_tuning_with_a_gradient_that_is_not_finite_stops(tiny, store, tmp_path, monkeypatch):
    real = fine_tuning.segmentation_loss
    monkeypatch.setattr(fine_tuning, "segmentation_loss", lambda *all: (loss := real(*all)) + (loss * 0).sqrt())
    with pytest.raises(TrainingStopped, match=r"the fine-tuning gradient is not finite in epoch 0, step 0 .*\(nan\)"):
        finetuned(tiny, store, LocalRun(tmp_path, checkpoint_minutes=0))
    assert not training_states(tmp_path / "checkpoints")


def test_finetuning_learns_and_keeps_its_best_epoch(tiny, store, tmp_path):
    config = settings.with_settings(tiny, finetune={"epochs": 8, "steps_per_epoch": 10, "learning_rate": 3e-3})
    folder = finetuned(config, store, LocalRun(tmp_path))
    scores = [line["validation_dice"] for line in read_metrics(tmp_path)]
    assert max(scores) > scores[0] + 0.1
    facts = read_model(folder)[1]
    assert facts["best_dice"] == max(scores)
    assert facts["best_epoch"] == scores.index(max(scores))


def test_early_stopping_stops(tiny, store, tmp_path):
    still = settings.with_settings(tiny, finetune={"epochs": 30, "learning_rate": 1e-12, "patience_epochs": 2})
    finetuned(still, store, LocalRun(tmp_path))
    assert len(read_metrics(tmp_path)) < 10


def test_transfer_is_reported_and_random_is_random(tiny, store, model, tmp_path):
    assert "tensors transferred" in read_model(finetuned(tiny, store, LocalRun(tmp_path / "a"), model))[1]["transfer"]
    assert read_model(finetuned(tiny, store, LocalRun(tmp_path / "b")))[1]["transfer"] == "random initialisation"
    wider = settings.with_settings(tiny, network={"decoder_widths": (24, 24, 12, 12, 12)})
    with pytest.raises(ValueError, match="of the decoder match; at least 90% are expected"):
        finetuned(wider, store, LocalRun(tmp_path / "c"), model)


def test_both_starts_expect_each_label_as_often_as_the_labels_have_it(tiny, store, model):
    """And both see the intensities of the pre-training cases."""
    frequency = class_frequencies(training_slices(tiny, store, store.splits.train))
    plain = settings.with_settings(tiny, finetune={"classifier_bias": "default"})
    for folder in (None, model):
        start = initial_segmenter(tiny, store, folder, CPU, frequency)
        torch.testing.assert_close(start.model.classifier.bias.detach(), frequency.log().float())
        assert start.scale == pretraining.hu_scale(tiny, store)
        default = initial_segmenter(plain, store, folder, CPU, frequency).model
        assert default.classifier.bias.abs().max() < 1
        assert torch.equal(default.classifier.weight, start.model.classifier.weight)


def test_labelled_subsets_are_nested_and_the_same_for_every_method(store):
    for seed in (0, 1):
        order = [choose_patients(store, n, seed) for n in (1, 2)]
        assert set(order[0]) < set(order[1]) <= set(store.splits.train)
    assert choose_patients(store, None, 0) == list(store.splits.train)
    with pytest.raises(ValueError, match=r"finetune\.patients=99, but the training split of .* has 2 patients"):
        choose_patients(store, 99, 0)


def test_training_slices_are_the_labelled_ones_and_a_share_of_empty_ones(tiny, store):
    half = settings.with_settings(tiny, finetune={"empty_slice_fraction": 0.0})
    chosen = training_slices(half, store, store.splits.train)
    assert chosen.label.flatten(1).any(1).all()
    everything = settings.with_settings(tiny, finetune={"slices": "all"})
    assert len(training_slices(everything, store, store.splits.train)) == store.n_slices(store.splits.train)


def test_an_empty_slice_is_one_without_a_structure_and_none_comes_twice(tiny, store):
    tenth = settings.with_settings(tiny, finetune={"empty_slice_fraction": 0.3})
    chosen = training_slices(tenth, store, store.splits.train)
    assert len({(case, int(i)) for case, i in zip(chosen.case, chosen.slice_index, strict=True)}) == len(chosen)
    empty = ~(chosen.label != 0).flatten(1).any(1)
    everything = [store.read_case(case) for case in store.splits.train]
    there_are = sum(int((~(one.label != 0).flatten(1).any(1)).sum()) for one in everything)
    assert there_are > 0
    assert 0 < int(empty.sum()) <= min(there_are, round(0.3 * len(chosen)) + len(store.splits.train))


def test_validation_dice_of_a_perfect_and_an_empty_model(tiny, store):
    validation = {case: store.read_case(case) for case in store.splits.validation}
    scale = pretraining.hu_scale(tiny, store)

    class Says(torch.nn.Module):
        def __init__(self, right):
            super().__init__()
            self.right, self.at = right, 0

        def forward(self, x):
            labels = torch.cat([b.label for b in validation.values()])[self.at : self.at + len(x)].long()
            self.at += len(x)
            labels = labels if self.right else torch.zeros_like(labels)
            return torch.nn.functional.one_hot(labels, 5).permute(0, 3, 1, 2).float()

    assert validation_dice(Says(True), validation, scale, tiny, CPU) == 1
    assert validation_dice(Says(False), validation, scale, tiny, CPU) == 0

    def half_unknown(batch):
        known = torch.zeros_like(batch.label)
        known[: len(batch) // 2] = 255
        return dataclasses.replace(batch, label=batch.label * (known > 0), certainty=known)

    hidden = {case: half_unknown(batch) for case, batch in validation.items()}
    assert validation_dice(Says(True), hidden, scale, tiny, CPU) == 1


def test_evaluation_writes_rows_and_predictions_and_refuses_what_the_model_has_seen(tiny, store, model, tmp_path):
    import pandas as pd

    segmenter = finetuned(tiny, store, LocalRun(tmp_path / "f"), model)
    columns = {"method": "full", "seed": 0}
    path = evaluate(tiny, store, segmenter, tmp_path / "e", CPU, cases=store.splits.test, columns=columns)
    rows = pd.read_parquet(path)
    assert set(rows["case"]) == set(store.splits.test)
    assert (rows[rows["slice_index"] == -1].groupby("case").size() == 4).all()
    assert {p.name for p in (tmp_path / "e/predictions").iterdir()} == {f"{c}.nii.gz" for c in store.splits.test}
    for seen in (store.splits.train[0], store.splits.validation[0], store.splits.pretrain[-1]):
        with pytest.raises(ValueError, match=f"should now be tested on: {seen}"):
            evaluate(tiny, store, segmenter, tmp_path / "x", CPU, cases=[seen], columns=columns)
    with pytest.raises(ValueError, match="holds a 'pretrained' model"):
        evaluate(tiny, store, model, tmp_path / "x", CPU, cases=store.splits.test, columns=columns)


def test_uncertainty_maps_lie_in_0_1_and_follow_their_seed(store, model):
    images = store.read_case(store.splits.test[0]).image_hu[3:5]
    a, b, c = (uncertainty_maps(model, images, CPU, seed=s) for s in (0, 0, 1))
    assert a.shape == images.shape
    assert 0 <= a.min() <= a.max() <= 1
    assert a.std() > 0
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_uncertainty_maps_lie_on_the_scan(store, model, tmp_path):
    case = store.splits.pretrain[-1]  # an unlabelled scan as well
    path = write_uncertainty(model, store, case, tmp_path / "maps", CPU)
    image = nib.load(path)
    facts = store.cases.set_index("case").loc[case]
    assert image.shape == (facts["columns"], facts["rows"], facts["n_slices"])
    assert image.header.get_zooms() == pytest.approx([facts[f"spacing_{axis}_mm"] for axis in "xyz"])
    np.testing.assert_allclose(image.affine, store.affine(case), rtol=1e-6)
    stored = uncertainty_maps(model, store.read_case(case).image_hu, CPU)
    values = image.get_fdata().transpose(2, 1, 0)
    assert np.nanmax(np.abs(values - store.paste_back_map(case, stored.numpy()))) < 1e-6


class Shared:
    """A stream that gives each worker its half of fixed batches."""

    def __init__(self, store, config, rank, workers):
        self._whole, self._rank, self._workers = stream_of(config, store), rank, workers
        self.n_slices = self._whole.n_slices

    def batches(self, first_step):
        for batch in self._whole.batches(first_step):
            size = len(batch) // self._workers
            yield batch.select(torch.arange(self._rank * size, (self._rank + 1) * size))


class WorkerRun(LocalRun):
    def __init__(self, folder, rank, world_size):
        super().__init__(folder)
        self.rank, self.world_size = rank, world_size

    def kept(self, metrics):
        torch.distributed.barrier()
        if self.rank == 0:
            super().kept(metrics)


def _worker(rank, port, store_root, values, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    config, store = settings.from_dict(values), Store.open(store_root)
    run = WorkerRun(Path(folder), rank, 2)
    pretrain(config, store, Shared(store, config, rank, 2), run, CPU)
    own = {"both": 0.0, "lacking": math.nan} if rank == 0 else {"second": 1.0, "lacking": 1.0, "both": 1.0}
    told = mean_over_workers(own, 2)
    if rank == 0:
        (Path(folder) / "told.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


def test_two_workers_end_with_one_model(tiny, store, tmp_path):
    """Gradients and centres are averaged over workers: both ranks go on from the same student."""
    config = settings.with_settings(tiny, pretrain={"epochs": 1, "batch_size": 8, "measure_every_steps": 1})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, (port, str(store.root), config.model_dump(mode="json"), str(tmp_path)), nprocs=2)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(0 < line["information_pixel"] < 1 and "n_pixel" not in line for line in lines)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told == {"both": 0.5, "lacking": 1.0, "second": 1.0}  # a term that the first worker lacks is the second's
    facts = json.loads((tmp_path / "model/model.json").read_text())
    assert any(abs(v) > 0 for v in facts["center_pixel"])
