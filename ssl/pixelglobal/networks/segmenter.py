"""The encoder-decoder with class scores, and the labels it predicts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelglobal.config.schema import Config
from pixelglobal.devices import autocast
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.intensity import HuScale, normalize


class Segmenter(nn.Module):
    """A backbone with a 1 x 1 convolution to class scores, for fine-tuning."""

    def __init__(self, backbone: ResUNet, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.pixel_channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores [N, classes, S, S] of slices [N, 1, S, S]."""
        return self.classifier(self.backbone(x))


@torch.no_grad()
def predict_labels(model: nn.Module, images_hu: Tensor, scale: HuScale, config: Config, device: torch.device) -> Tensor:
    """Label maps uint8 [N, H, W] on the CPU of stored slices int16 [N, H, W]."""
    model.eval()
    labels = []
    for images in images_hu.split(config.evaluate.batch_size):
        x = normalize(images.to(device).float().unsqueeze(1), scale)
        with autocast(device, config.finetune.precision):
            scores = model(x.contiguous(memory_format=torch.channels_last))
        labels.append(scores.argmax(1).to(torch.uint8).cpu())
    return torch.cat(labels)
