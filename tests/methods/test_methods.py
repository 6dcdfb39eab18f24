"""Every method behind one door: it trains, resumes, exports what fine-tuning reads, and leaves its teacher alone."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from experiments.bench.methods import bench_methods
from experiments.bench.step import Size
from pixelglobal import config as settings
from pixelglobal.config.registry import METHODS, method_class, variants
from pixelglobal.data.store import Store
from pixelglobal.data.stream import LocalStream
from pixelglobal.losses.consistency import disagreement, targets
from pixelglobal.methods.base import Method
from pixelglobal.networks.unet import compile_networks
from pixelglobal.seeds import generator, seeded
from pixelglobal.training.checkpoints import load_training_state, read_model
from pixelglobal.training.finetune import finetune
from pixelglobal.training.optim import pretraining_optimizer
from pixelglobal.training.pretrain import hu_scale, pretrain, stage_of, views_of
from pixelglobal.training.pretraining_stream import pretraining_stream
from pixelglobal.training.runs import LocalRun, read_metrics
from pixelglobal.views.intensity import HuScale
from pixelglobal.views.pairs import make_view_pair
from tests.support import Killed, RunKilledAfter

CPU = torch.device("cpu")
NAMES = list(METHODS)
VARIANTS = [
    ("gl", {"variant": "random"}),
    ("gl", {"variant": "partition_negatives"}),
    ("gl", {"schedule": "joint"}),
    ("gl", {"schedule": "joint", "regions": "dictionary", "flips": True, "rotation": True}),
    ("gl", {"regions": "dictionary"}),
    ("pgl", {"alignment": "grid_sample"}),
    ("pgl", {"stride": 16}),
    ("restore", {"position_weight": 0}),
    ("densecl", {"stride": 16}),
]


def of(base, name, section=None):
    """The config of a method, its own section changed."""
    own = {name: section} if section else {}
    return settings.with_settings(base, pretrain={"method": name}, **own)


def built(config, seed=0):
    return seeded(lambda: method_class(config.pretrain.method)(config), seed).train()


def a_pair(method, stage=0, n=8, seed=0):
    """n slices of four volumes, of smooth noise."""
    draws = generator(seed, "pair")
    images = torch.randint(-1000, 300, (n, 16, 16), generator=draws, dtype=torch.int16)
    images = images.repeat_interleave(3, 1).repeat_interleave(3, 2)
    partners, scale = torch.ones(n, dtype=torch.bool), HuScale(-1024, 325, -300, 400)
    pair = make_view_pair(images, partners, method.view_plan(stage), scale, draws)
    depth = torch.rand(n, generator=draws)
    return replace(pair, volume_B=torch.arange(n) % 4, depth_B=depth, stage=stage)


def trained(config, store, run):
    return pretrain(config, store, pretraining_stream(config, store), run, CPU)


def test_every_name_has_a_class_a_section_and_what_studies_print():
    for name in METHODS:
        method = method_class(name)
        assert issubclass(method, Method)
        assert method.name == name
        assert method.citation
        assert method.variants
        assert isinstance(settings.resolve("smoke").methods[name], method.Settings)
    labels = [variant.label for _, variant in variants().values()]
    colors = [variant.color for _, variant in variants().values()]
    assert len(set(labels)) == len(set(colors)) == len(labels)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"pretrain\.method='pgll' is unknown: choose one of pixel_global, gl, pgl"):
        settings.resolve("smoke", ["pretrain.method=pgll"])
    with pytest.raises(ValueError, match=r"module:Class where the module can be imported"):
        method_class("no_such_module:Method")
    with pytest.raises(ValueError, match="is no subclass of"):
        method_class("pathlib:Path")
    with pytest.raises(ValueError, match=r"'simsiam' in Config.*where pretrain\.method=module:Class names it"):
        settings.resolve("smoke", ["simsiam.hidden=2"])
    with pytest.raises(ValueError, match=r"'temprature' in GlSettings: did you mean 'temperature'"):
        settings.resolve("smoke", ["gl.temprature=2"])


def test_a_run_is_cut_into_equal_stages():
    assert [stage_of(step, 7, 1) for step in (0, 6)] == [(0, 0, 7), (0, 6, 7)]
    assert [stage_of(step, 6, 2)[0] for step in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [stage_of(step, 7, 3)[:2] for step in range(7)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.parametrize(("name", "section"), [*((name, None) for name in NAMES), *VARIANTS])
def test_losses_train_the_student_and_never_the_teacher(tiny, name, section):
    method = built(of(tiny, name, section))
    for stage in range(method.stages):
        method.zero_grad()
        terms = method.losses(a_pair(method, stage), generator(0))
        parts = [value for key, value in terms.items() if key.startswith("loss_")]
        if parts:
            torch.testing.assert_close(terms["loss"], torch.stack(parts).sum())
        assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
        terms["loss"].backward()
        assert sum(p.grad.abs().sum() for p in method.trainable().parameters() if p.grad is not None) > 0
    if method.teacher is not None:
        assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
        student = {p.data_ptr() for p in method.student.parameters()}
        assert student.isdisjoint({p.data_ptr() for p in method.teacher.parameters()})


@pytest.mark.parametrize("name", ["pgl", "byol", "dino", "moco", "densecl", "pixpro"])
def test_the_teacher_starts_as_the_student_and_follows_it(tiny, name):
    method = built(of(tiny, name))
    source = getattr(method.student, "projected", method.student)
    pairs = [(t.clone(), s) for t, s in zip(method.teacher.parameters(), source.parameters(), strict=True)]
    assert all(torch.equal(t, s) for t, s in pairs)
    with torch.no_grad():
        for _, s in pairs:
            s.add_(1)
    method.after_step(0, 100)
    for (before, _), after in zip(pairs, method.teacher.parameters(), strict=True):
        torch.testing.assert_close(after - before, torch.full_like(before, 0.01), atol=1e-4, rtol=0)


def test_gl_freezes_the_encoder_in_its_second_stage_and_cuts_both_views_alike(tiny):
    method = built(of(tiny, "gl"))
    assert method.stages == 2
    first, second = a_pair(method, 0), a_pair(method, 1)
    assert not torch.equal(first.maps_1, first.maps_2)
    assert torch.equal(second.maps_1, second.maps_2)
    assert not torch.equal(second.view_1, second.view_2)  # intensities differ
    assert set(method.losses(first, generator(0))) == {"loss_global", "loss"}
    terms = method.losses(second, generator(0))
    assert set(terms) == {"loss_local", "loss"}
    terms["loss"].backward()
    student = method.student
    touched = {name for name, p in student.named_parameters() if p.grad is not None}
    decoder = {f"backbone.decoder.blocks.{i}" for i in range(3)}
    assert {n.rsplit(".", 2)[0] for n in touched if "decoder" in n} == decoder
    assert all(n.startswith(("backbone.decoder", "local_head")) for n in touched)


def test_gl_pre_trains_with_crops_and_intensities_alone(tiny):
    tiny = settings.with_settings(tiny, pretrain={"flips": True})
    plain, turned = (
        built(of(tiny, "gl", {"flips": on, "rotation": on, "schedule": "global_only"})) for on in (False, True)
    )
    upright = a_pair(plain, n=32)
    for maps in (upright.maps_1, upright.maps_2):
        assert (maps[:, 0, 0] > 0).all()
        assert (maps[:, 1, 1] > 0).all()
        assert (maps[:, 0, 1] == 0).all()
    assert (a_pair(turned, n=32).maps_1[:, 0, 0] < 0).any()


def test_no_method_mirrors_its_views_if_told_not_to(tiny):
    for name in METHODS:
        plan = built(of(settings.with_settings(tiny, pretrain={"flips": False}), name)).view_plan(0)
        assert plan.views.flip_horizontal_probability == plan.views.flip_vertical_probability == 0, name


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_its_networks_compiled(tiny, name):
    method = built(of(tiny, name))
    compile_networks(method)
    encoders = [m for path, m in method.named_modules() if path.endswith("encoder")]
    assert encoders
    assert all(m._compiled_call_impl is not None for m in encoders)


def test_gl_through_the_dictionary_equals_shared_geometry_where_views_are_alike(tiny):
    """Reading regions through the maps changes nothing when both views are cut at one place."""
    alike = built(of(tiny, "gl"))
    pair = a_pair(alike, 1)
    found = built(of(tiny, "gl", {"regions": "dictionary"}))
    torch.testing.assert_close(found.losses(pair, generator(0))["loss"], alike.losses(pair, generator(0))["loss"])


def test_pgl_does_not_rotate_for_roi_align_and_both_alignments_agree_without_rotation(tiny):
    by_roi, by_sampling = (built(of(tiny, "pgl", {"alignment": a})) for a in ("roi_align", "grid_sample"))
    pair = a_pair(by_roi, n=32)
    assert (pair.maps_1[:, 0, 1] == 0).all()
    assert (a_pair(by_sampling, n=32).maps_1[:, 0, 1] != 0).any()
    one, two = (m.losses(pair, generator(0)) for m in (by_roi, by_sampling))
    torch.testing.assert_close(one["loss"], two["loss"], atol=1e-5, rtol=1e-5)
    assert one["images_with_overlap"] == 1


def test_pgl_without_overlap_costs_nothing(tiny):
    method = built(of(tiny, "pgl"))
    pair = a_pair(method)
    apart = replace(pair, maps_2=pair.maps_2 + torch.tensor([[0.0, 0.0, 500.0], [0.0, 0.0, 0.0]]))
    terms = method.losses(apart, generator(0))
    terms["loss"].backward()
    assert terms["loss"].item() == 0
    assert terms["images_with_overlap"].item() == 0
    assert all(torch.isfinite(p.grad).all() for p in method.student.parameters() if p.grad is not None)


def test_dino_s_loss_is_lightly_s(tiny):
    loss = pytest.importorskip("lightly.loss", reason="lightly comes with the extra: pip install '.[bench]'")
    g = generator(0)
    teacher, student = ([torch.rand(6, 16, generator=g) for _ in range(2)] for _ in range(2))
    center = torch.rand(16, generator=g) * 0.1
    theirs = loss.DINOLoss(output_dim=16, warmup_teacher_temp_epochs=0, teacher_temp=0.04, student_temp=0.1)
    buffer = dict(theirs.named_buffers())
    (name,) = [n for n in buffer if n.endswith("center")]
    buffer[name].copy_(center.view_as(buffer[name]))
    pairs = ((0, 1), (1, 0))
    ours = sum(disagreement(targets(teacher[i], center, 0.04), student[j], 0.1).mean() for i, j in pairs) / 2
    assert theirs(teacher, student).item() == pytest.approx(ours.item(), abs=1e-5)


def test_dino_is_both_directions_of_go(tiny):
    method = built(of(tiny, "dino"))
    pair = a_pair(method)
    views, nowhere = torch.cat([pair.view_1, pair.view_2]), torch.zeros(0, dtype=torch.long)
    with torch.no_grad():
        z_t, z_s = (net(views, nowhere, nowhere)[0].chunk(2) for net in (method.teacher, method.student))
    by_hand = [disagreement(targets(z_t[i], torch.zeros(64), 0.04), z_s[1 - i], 0.1).mean() for i in (0, 1)]
    torch.testing.assert_close(method.losses(pair, generator(0))["loss"], (by_hand[0] + by_hand[1]) / 2)
    torch.testing.assert_close(method.center_global, 0.1 * torch.cat(z_t).mean(0))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "pixel_global"])
def test_every_method_pre_trains_and_its_checkpoint_fine_tunes(tiny, store, tmp_path, name):
    config = of(tiny, name)
    model = trained(config, store, LocalRun(tmp_path / "pre"))
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in read_metrics(tmp_path / "pre"))
    facts = read_model(model)[1]
    expected = {"gl": [*(f"decoder.blocks.{i}" for i in range(3)), "encoder"]}
    expected |= {whole: ["decoder", "encoder"] for whole in ("dino", "restore", "restore_full", "context_restoration")}
    assert facts["parts"] == expected.get(name, ["encoder"])
    assert facts["citation"] == method_class(name).citation
    cases = {"train_cases": store.splits.train, "validation_cases": store.splits.validation}
    short = settings.with_settings(config, finetune={"epochs": 1})
    tuned = finetune(short, store, LocalRun(tmp_path / "ft"), CPU, pretrained=model, **cases)
    report = read_model(tuned)[1]["transfer"].split()
    assert report[0] == report[2]  # "N of N tensors transferred"
    if name in ("gl", "simclr", "restore"):
        taught = settings.with_settings(short, finetune={"transfer_from": "teacher"})
        with pytest.raises(ValueError, match="holds no teacher; it has: student"):
            finetune(taught, store, LocalRun(tmp_path / "t"), CPU, pretrained=model, **cases)


@pytest.mark.parametrize("name", ["gl", "pgl"])
def test_a_killed_run_goes_on_exactly_through_its_stages(tiny, store, tmp_path, name):
    """GL's second stage begins at step 3 of 6: the run dies before it and in it."""
    config = settings.with_settings(of(tiny, name), pretrain={"epochs": 3, "steps_per_epoch": 2})
    whole = read_model(trained(config, store, LocalRun(tmp_path / "whole")))[0]
    for steps in (2, 4):
        with pytest.raises(Killed):
            trained(config, store, RunKilledAfter(tmp_path / "killed", steps))
    resumed = read_model(trained(config, store, LocalRun(tmp_path / "killed")))[0]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def price_of_a_false_pair(method, config, store):
    """How many times a true pair's loss a false pair (view 2 of another image) costs, in each stage."""
    batch = next(LocalStream(store, store.splits.pretrain, batch_size=16, seed=99).batches(0))
    prices = []
    for stage in range(method.stages):
        pair = views_of(batch, method, stage, hu_scale(config, store), CPU, generator(5))
        false = replace(pair, view_2=pair.view_2.roll(3, 0), maps_2=pair.maps_2.roll(3, 0))
        with torch.no_grad():
            true_loss, false_loss = (method.losses(p, generator(0))["loss"].item() for p in (pair, false))
        prices.append(false_loss / true_loss)
    return prices


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("gl", None),
        ("gl", {"regions": "dictionary"}),
        ("pgl", None),
        ("pixpro", None),
        *(pytest.param(name, None, marks=pytest.mark.slow) for name in ("byol", "simclr", "dino")),
    ],
)
def test_training_raises_the_price_of_a_false_pair(tiny, store, tmp_path, name, section):
    config = settings.with_settings(
        of(tiny, name, section),
        views={"crop_scale_min": 0.5, "crop_scale_max": 0.8},  # crops that can differ
        pretrain={"epochs": 1, "steps_per_epoch": 60, "batch_size": 16, "learning_rate": 2e-3},
        **{method: {"ema_base": 0.9} for method in ("pgl", "byol", "dino", "pixpro")},
    )
    run = LocalRun(tmp_path)
    trained(config, store, run)
    method = built(config)
    before = price_of_a_false_pair(method, config, store)
    optimizer = pretraining_optimizer(method.trainable(), config.pretrain)
    load_training_state(run.latest_checkpoint(), {"method": method}, optimizer)
    after = price_of_a_false_pair(method, config, store)
    assert all(b > 1 and b > a for a, b in zip(before, after, strict=True)), (before, after)


@pytest.mark.slow
def test_the_bench_has_a_row_for_every_method_and_stage():
    found = bench_methods(Size("resnet10t", 32, 4, 2), rounds=1)
    assert [row["method"] for row in found.rows if not row["method"].startswith("gl")] == [
        name for name in NAMES if name != "gl"
    ]
    assert sum(row["method"].startswith("gl, stage") for row in found.rows) == 2
    assert all(value > 0 for row in found.rows for key, value in row.items() if key != "method")


def _worker(rank, port, store_root, values, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    config, store = settings.from_dict(values), Store.open(store_root)
    run = LocalRun(Path(folder) / str(rank), checkpoint_minutes=0)
    run.rank, run.world_size = rank, 2
    stream = LocalStream(store, store.splits.pretrain, batch_size=4, seed=rank)  # each worker slices of its own
    pretrain(config, store, stream, run, CPU)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_over_two_workers_gl_s_encoder_stays_frozen_in_its_second_stage(tiny, store, tmp_path):
    """Gradients that no worker has must stay None, or weight decay and momentum would move what is frozen."""
    config = settings.with_settings(of(tiny, "gl"), pretrain={"weight_decay": 0.1})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, (port, str(store.root), config.model_dump(mode="json"), str(tmp_path)), nprocs=2)
    first, second = (load_file(tmp_path / f"0/checkpoints/step_0000000{i}/state.safetensors") for i in (5, 6))
    weights = [k for k in first if "encoder" in k and k.startswith("method/") and k.endswith(("weight", "bias"))]
    assert all(torch.equal(first[k], second[k]) for k in weights)
    trained_blocks = [k for k in first if k.startswith("method/student.backbone.decoder.blocks.0") and "weight" in k]
    assert any(not torch.equal(first[k], second[k]) for k in trained_blocks)
