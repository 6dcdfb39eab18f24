"""Self-training: which slices a fine-tuned model labels, how certain, and that a second round learns from them."""

import json

import pytest
import torch

from pixelglobal import config as settings
from pixelglobal.cluster.train import run_finetune
from pixelglobal.data.slices import SliceBatch
from pixelglobal.evaluation.pseudo_labels import pseudo_labelled, unlabelled_cases
from pixelglobal.losses.segmentation import segmentation_loss
from pixelglobal.training.labelled import MixedSampler

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tiny):
    return settings.with_settings(tiny, finetune={"pseudo_labels": 10, "epochs": 1, "patients": 1})


@pytest.fixture(scope="module")
def teacher(config, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    work = {"pretrained": None, "train_cases": store.splits.train[:1], "validation_cases": store.splits.validation}
    return run_finetune(config, store.root, folder, **work)


def test_it_labels_slices_of_patients_whose_labels_nobody_uses(config, store, teacher):
    labelled = store.splits.train[:1]
    pseudo = pseudo_labelled(config, store, teacher, labelled, CPU)
    assert set(pseudo.case) <= set(store.splits.pretrain) - {*labelled, *store.splits.validation, *store.splits.test}
    assert abs(len(pseudo) - 10) <= len(unlabelled_cases(config, store, labelled))
    assert pseudo.certainty.shape == pseudo.label.shape
    assert pseudo.certainty.dtype == torch.uint8
    again = pseudo_labelled(config, store, teacher, labelled, CPU)
    assert torch.equal(pseudo.image_hu, again.image_hu)
    everything = [*store.splits.pretrain, *store.splits.train]
    with pytest.raises(ValueError, match="no unlabelled patient"):
        pseudo_labelled(config, store, teacher, everything, CPU)


def test_a_batch_has_its_share_of_them_and_labels_of_people_are_certain(config, store, teacher):
    labelled = store.read_case(store.splits.train[0])
    pseudo = pseudo_labelled(config, store, teacher, store.splits.train[:1], CPU)
    batch = MixedSampler(labelled, pseudo, config, 1).of_step(0, 0, 1)
    people = [case == store.splits.train[0] for case in batch.case]
    assert people == [True, True, False, False]
    assert (batch.certainty[:2] == 255).all()
    halves = [MixedSampler(labelled, pseudo, config, 2).of_step(0, rank, 2) for rank in (0, 1)]
    assert sorted(SliceBatch.concatenate(halves).case) == sorted(batch.case)
    few = settings.with_settings(config, finetune={"pseudo_label_fraction": 0.01})
    with pytest.raises(ValueError, match=r"pseudo_label_fraction=0.01 makes 0 of a batch of 4"):
        MixedSampler(labelled, pseudo, few, 1)


def test_the_second_round_learns_from_them(config, store, teacher, tmp_path):
    work = {"pretrained": None, "train_cases": store.splits.train[:1], "validation_cases": store.splits.validation}
    second = run_finetune(config, store.root, tmp_path / "second", **work, teacher=teacher)
    assert (second / "model.safetensors").read_bytes() != (teacher / "model.safetensors").read_bytes()
    seen = json.loads((second / "model.json").read_text())["cases_seen"]
    pseudo = pseudo_labelled(config, store, teacher, store.splits.train[:1], CPU)
    assert set(seen) == {*store.splits.train[:1], *store.splits.validation, *pseudo.case}


def test_a_pixel_without_weight_has_no_gradient():
    scores = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels, contoured = torch.randint(0, 3, (2, 4, 4)), torch.ones(2, 3, dtype=torch.bool)
    weight = torch.ones(2, 4, 4)
    weight[0, 0, 0] = 0
    segmentation_loss(scores, labels, contoured, 0.5, weight).backward()
    assert (scores.grad[0, :, 0, 0] == 0).all()
    assert (scores.grad[0, :, 0, 1] != 0).any()
    ones = segmentation_loss(scores, labels, contoured, 0.5, torch.ones(2, 4, 4))
    assert ones.item() == pytest.approx(segmentation_loss(scores, labels, contoured, 0.5).item())
