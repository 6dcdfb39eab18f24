"""What a step of the loops does: it follows the schedule, clips the gradient and renames what a mirror exchanges."""

import pytest
import torch
from torch import nn

from pixelglobal import config as settings
from pixelglobal.config.registry import method_class
from pixelglobal.data.slices import SliceBatch
from pixelglobal.data.stream import LocalStream
from pixelglobal.seeds import derive, seeded
from pixelglobal.training.checkpoints import read_model
from pixelglobal.training.finetune import _Training, finetune
from pixelglobal.training.labelled import SliceSampler
from pixelglobal.training.pretrain import pretrain
from pixelglobal.training.runs import LocalRun, read_metrics
from pixelglobal.views.augment import mirror_labels
from pixelglobal.views.intensity import HuScale

CPU = torch.device("cpu")


def pretrained(config, store, folder):
    stream = LocalStream(store, store.splits.pretrain, batch_size=config.pretrain.batch_size, seed=config.seed)
    return pretrain(config, store, stream, LocalRun(folder), CPU)


def test_pre_training_warms_up_for_as_long_as_it_is_told(tiny, store, tmp_path):
    """An epoch of three steps to the peak of 0.3, then half a cosine over the three steps that are left."""
    plan = {"method": "simclr", "learning_rate": 0.3, "warmup_epochs": 1, "epochs": 2, "steps_per_epoch": 3}
    pretrained(settings.with_settings(tiny, pretrain=plan), store, tmp_path)
    rates = [line["learning_rate"] for line in read_metrics(tmp_path)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3 * 0.75, 0.3 * 0.25])


@pytest.mark.parametrize("clip", [0.01, 0.0])
def test_no_step_is_longer_than_the_clip_allows(tiny, store, tmp_path, clip):
    """One step of plain SGD moves the weights by the learning rate times the gradient; a clip of 0 is none."""
    plan = {"method": "simclr", "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0, "gradient_clip": clip}
    plan |= {"epochs": 1, "steps_per_epoch": 1, "warmup_epochs": 0}
    config = settings.with_settings(tiny, pretrain=plan)
    after = read_model(pretrained(config, store, tmp_path))[0]
    start = seeded(lambda: method_class("simclr")(config), derive(config.seed, "weights"))
    before = {f"{part}.{name}": p for part, module in start.exported().items() for name, p in module.named_parameters()}
    moved = sum((after[name] - p.detach()).square().sum() for name, p in before.items()).sqrt().item()
    gradient = read_metrics(tmp_path)[0]["gradient_norm"]
    assert gradient > 1  # or there would be nothing to clip
    assert moved == pytest.approx(0.1 * (clip or gradient), rel=1e-3)


class AlwaysTheRightOne(nn.Module):
    """A segmenter that is sure to see structure 2 everywhere."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor([0.0, 0.0, 20.0]))

    def forward(self, images):
        return self.scores[None, :, None, None].expand(len(images), 3, *images.shape[-2:])


@pytest.mark.parametrize(("mirrored", "punished"), [(1.0, True), (0.0, False)])
def test_a_mirror_exchanges_which_structure_was_contoured(tiny, tmp_path, mirrored, punished):
    """Only the left structure was contoured; in the mirror it is the right one, so that a false right one is an error.

    In the slice as it is nobody says where the right structure lies, and seeing it costs nothing.
    """
    config = settings.with_settings(tiny, finetune={"dice_weight": 0.0, "flip_horizontal_probability": mirrored})
    model = AlwaysTheRightOne()
    batch = SliceBatch(
        image_hu=torch.zeros(2, 32, 32, dtype=torch.int16),
        label=torch.zeros(2, 32, 32, dtype=torch.uint8),
        contoured=torch.tensor([[True, True, False]] * 2),
        case=["a", "b"],
        patient=["a", "b"],
        slice_index=torch.zeros(2, dtype=torch.int32),
        n_slices=torch.ones(2, dtype=torch.int32),
    )
    training = _Training(
        config,
        LocalRun(tmp_path),
        SliceSampler(batch, config),
        1,
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", enabled=False),
        HuScale(-1024, 325, 0, 100),
        mirror_labels(["Left", "Right"], [["Left", "Right"]]),
    )
    loss = training._step(0, batch)[0].item()
    assert loss > 15 if punished else loss < 1e-3


def test_fine_tuning_warms_up_over_the_share_of_its_steps_that_it_is_told(tiny, store, tmp_path):
    """Five epochs of one step, two of them of warm-up; then the polynomial over the three that are left."""
    plan = {"epochs": 5, "steps_per_epoch": 1, "warmup_fraction": 0.4, "learning_rate": 0.1, "polynomial_power": 1.0}
    config = settings.with_settings(tiny, finetune=plan)
    train, validation = store.splits.train, store.splits.validation
    finetune(config, store, LocalRun(tmp_path), CPU, pretrained=None, train_cases=train, validation_cases=validation)
    rates = [line["learning_rate"] for line in read_metrics(tmp_path)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.1 * 2 / 3, 0.1 / 3])
