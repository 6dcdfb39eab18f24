"""The encoder-decoder with class scores, and the labels it predicts.

Shape letters: B images, C channels, I channels of an image, H rows, W columns, L labels, Z slices of a scan.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int16, UInt8
from torch import Tensor, nn

from pixelglobal.config.schema import Config
from pixelglobal.devices import autocast
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.intensity import HuScale, normalize, with_channels


class Segmenter(nn.Module):
    """A backbone with a 1 x 1 convolution to class scores, for fine-tuning."""

    def __init__(self, backbone: ResUNet, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.pixel_channels, classes, 1)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B L H W"]:
        """The score of each label at each pixel of slices."""
        scores: Tensor = self.classifier(self.backbone(x))
        return scores

    @torch.no_grad()
    def expect_frequencies(self, frequency_L: Float64[Tensor, " L"]) -> None:
        """Let the untrained scores say how often each label is found: the classifier's bias becomes its logarithm.

        A network that starts from equal scores first learns that nearly everything is background and has to leave that
        plateau again (the prior of Lin et al. 2017, focal loss, section 3.3). The frequencies are positive.
        """
        assert self.classifier.bias is not None
        self.classifier.bias.copy_(frequency_L.log())


@torch.no_grad()
def predict_labels(
    model: nn.Module, images_hu: Int16[Tensor, "Z *C H W"], scale: HuScale, config: Config, device: torch.device
) -> UInt8[Tensor, "Z H W"]:
    """Label maps, on the CPU, of the stored slices of a scan."""
    model.eval()
    labels = []
    for images in torch.split(images_hu, config.evaluate.batch_size):
        x = normalize(with_channels(images.to(device)), scale)
        with autocast(device, config.finetune.precision):
            scores = model(x.contiguous(memory_format=torch.channels_last))
        labels.append(scores.argmax(1).to(torch.uint8).cpu())
    return torch.cat(labels)
