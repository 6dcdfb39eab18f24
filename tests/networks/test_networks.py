"""Networks: shapes at every scale, heads whose logits are cosines, statistics that are left alone when asked."""

import pytest
import torch

from pixelglobal.config.overrides import resolve
from pixelglobal.config.schema import Network
from pixelglobal.networks.batch_norm import frozen_batch_norm_buffers
from pixelglobal.networks.heads import ProjectionHead
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.unet import ResUNet, pixels_of
from pixelglobal.seeds import seeded


@pytest.mark.parametrize(
    ("encoder", "widths"),
    [
        ("resnet50", (64, 32, 16, 16, 16)),
        ("resnet10t", (48, 32, 24, 16, 16)),
        ("efficientnet_b0", (32, 16, 16, 8, 8)),
        ("convnext_atto", (32, 16, 16, 8, 8)),  # has no maps at strides 1 and 2
    ],
)
def test_any_timm_encoder_gives_full_resolution_pixels(encoder, widths):
    net = ResUNet(Network(encoder=encoder, decoder_widths=widths))
    assert net(torch.zeros(2, 1, 64, 64)).shape == (2, widths[-1], 64, 64)
    assert Segmenter(net, 4)(torch.zeros(2, 1, 96, 96)).shape == (2, 4, 96, 96)


def test_the_default_is_the_paper_s_resunet50():
    net = ResUNet(Network())
    assert net.vector_channels == 2048
    assert net.encoder.conv1.in_channels == 1
    assert [len(getattr(net.encoder, f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]


def test_encoder_weights_load_into_plain_timm():
    import timm

    net = ResUNet(Network(encoder="resnet18", decoder_widths=(16, 16, 16, 16, 16)))
    plain = timm.create_model("resnet18", in_chans=1, num_classes=0)
    missing, unexpected = plain.load_state_dict(net.encoder.state_dict(), strict=False)
    assert not missing
    assert not unexpected


def test_the_decoder_uses_every_map_of_the_encoder():
    net = ResUNet(Network(encoder="resnet10t", decoder_widths=(48, 32, 24, 16, 16)))
    features = [f.detach().requires_grad_() for f in net.encode(torch.randn(1, 1, 64, 64))]
    net.decoder(features).sum().backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)


def test_wrong_widths_and_unknown_encoders_are_refused():
    with pytest.raises(ValueError, match=r"has 2 entries; this encoder halves the image 5 times, so give 5 widths"):
        ResUNet(Network(encoder="resnet18", decoder_widths=(16, 8)))
    with pytest.raises(ValueError, match=r"network\.encoder='resnet5O' is not a timm model.*similar names"):
        ResUNet(Network(encoder="resnet5O"))


def test_logits_are_cosines_in_fp32_under_mixed_precision():
    head = ProjectionHead(16, 32, 8, 12, hidden_layers=2, bn_logits=False)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(torch.randn(64, 16))
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 1 + 1e-5
    head.prototypes.data *= 100  # unit norm whatever their length
    assert head(torch.randn(64, 16)).abs().max() <= 1 + 1e-5


def test_bn_logits_have_mean_0_and_variance_1():
    logits = ProjectionHead(16, 32, 8, 12, hidden_layers=1, bn_logits=True)(torch.randn(500, 16))
    torch.testing.assert_close(logits.mean(0), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.var(0, unbiased=False), torch.ones(12), atol=1e-2, rtol=0)


def test_frozen_buffers_stay_and_the_output_is_the_same():
    net = ResUNet(resolve("smoke").network).train()
    x = torch.randn(4, 1, 64, 64)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with frozen_batch_norm_buffers(net):
        frozen = net(x)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    torch.testing.assert_close(frozen, net(x))
    assert any(not torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_pixels_of_picks_the_named_pixels():
    maps = torch.arange(2.0 * 3 * 4 * 4).view(2, 3, 4, 4)
    picked = pixels_of(maps, torch.tensor([0, 1]), torch.tensor([5, 14]))
    assert picked.tolist() == [maps[0, :, 1, 1].tolist(), maps[1, :, 3, 2].tolist()]


def test_initial_weights_follow_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (seeded(lambda: torch.nn.Linear(3, 3), seed).weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
