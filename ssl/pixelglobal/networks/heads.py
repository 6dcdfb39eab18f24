"""Heads on encoder vectors, decoder pixels and feature maps.

Shape letters: N vectors, C channels, K outputs of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Vectors to logits: hidden layers with BN and GELU, an L2-normalised bottleneck, and a last layer of unit-norm
    prototypes, as in DINO.

    The logits are cosines in [-1, 1], so temperatures of 0.1 and 0.04 make sense. With bn_logits, batch statistics
    take each logit to mean 0 and variance 1 instead (no affine).
    """

    def __init__(
        self, channels: int, hidden: int, bottleneck: int, outputs: int, *, hidden_layers: int, bn_logits: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(hidden_layers):
            layers += [nn.Linear(channels if i == 0 else hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()]
        layers.append(nn.Linear(hidden, bottleneck))
        self.layers = nn.Sequential(*layers)
        self.prototypes = nn.Parameter(torch.empty(outputs, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)
        self.logit_norm = nn.BatchNorm1d(outputs, affine=False) if bn_logits else nn.Identity()

    def forward(self, vectors: Float[Tensor, "N C"]) -> Float32[Tensor, "N K"]:
        """Logits, in fp32: a cosine in half precision is too coarse for a temperature of 0.04."""
        bottleneck = self.layers(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = F.linear(F.normalize(bottleneck.float(), dim=-1), F.normalize(self.prototypes.float(), dim=-1))
            logits: Tensor = self.logit_norm(cosines)
        return logits


class MlpHead(nn.Sequential):
    """Vectors [N, C] to vectors [N, K] through one hidden layer with ReLU and, if asked for, BN.

    It is the projector of SimCLR, the projector and the predictor of BYOL and, on every entry of a feature map, of PGL.
    """

    def __init__(self, channels: int, hidden: int, outputs: int, *, batch_norm: bool) -> None:
        norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
        first, last = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, outputs, bias=False)
        super().__init__(first, *norm, nn.ReLU(inplace=True), last)
