"""DenseCL: MoCo, and the same for each cell of a feature map with the most alike cell of the other view.

Source: Wang et al. 2021, "Dense contrastive learning for self-supervised visual pre-training".

Shape letters: B images, C channels, D length of a vector, h map rows, S side of a square image.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.losses.contrastive import queue_contrast
from pixelglobal.losses.dense import most_alike
from pixelglobal.methods.base import Variant
from pixelglobal.methods.moco import Moco, MocoSettings
from pixelglobal.methods.pgl import dense, level_of_stride
from pixelglobal.networks.heads import MlpHead
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.pairs import ViewPair


class DenseClSettings(MocoSettings):
    """DenseCL (Wang et al. 2021); what it shares with MoCo v2 has the same values."""

    presets = {name: {**values, "stride": 8} for name, values in MocoSettings.presets.items()}  # of views under 224

    stride: Literal[4, 8, 16, 32] = 32  # of the encoder's map whose cells are compared
    dense_weight: float = Field(0.5, ge=0, le=1)  # lambda of its Eq. (3); the rest is MoCo's loss


class Projected(nn.Module):
    """An encoder with a head on its vector and one on every cell of a map."""

    def __init__(self, network: Network, settings: DenseClSettings) -> None:
        super().__init__()
        backbone = ResUNet(network)
        self.encoder = backbone.encoder
        self.level, channels = level_of_stride(self.encoder, settings.stride, "densecl.stride", network.encoder)
        self.head = MlpHead(backbone.vector_channels, settings.hidden, settings.outputs, batch_norm=False)
        self.dense_head = MlpHead(channels, settings.hidden, settings.outputs, batch_norm=False)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors [B, D], cells [B, D, h * h] of any norm, and the map [B, C, h * h] that they come from."""
        features = self.encoder(views)
        vectors = F.normalize(self.head(features[-1].mean((2, 3))).float(), dim=1)
        return vectors, dense(self.dense_head, features[self.level]).float().flatten(2), features[self.level].flatten(2)


class DenseCl(Moco):
    """DenseCL in one direction: view 1 asks, view 2 has the keys."""

    name = "densecl"
    Settings: ClassVar[type[Section]] = DenseClSettings
    variants = {"densecl": Variant("DenseCL", "#5b9279")}
    citation = "Wang et al. 2021, Dense contrastive learning for self-supervised visual pre-training"

    parts = ("encoder", "head", "dense_head")
    settings: DenseClSettings

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.dense_queue = self.new_queue()

    def projected(self, network: Network) -> nn.Module:
        """The student, of which the teacher is a copy."""
        return Projected(network, self.settings)

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """loss_global is MoCo's; loss_dense has the mean cells of other images as negatives; both weighted."""
        settings = self.settings
        with torch.no_grad():
            key, cells_2, features_2 = self.teacher(pair.view_2)
            mean_key = F.normalize(cells_2.mean(2), dim=1)
        query, cells_1, features_1 = self.run_student(pair.view_1)
        twin = most_alike(features_1, features_2)[:, None].expand_as(cells_2)
        cell_1, cell_2 = (F.normalize(cells, dim=1).mT.flatten(0, 1) for cells in (cells_1, cells_2.gather(2, twin)))
        of_vectors = queue_contrast(query, key, self.queue.vectors.clone(), settings.temperature)
        of_cells = queue_contrast(cell_1, cell_2, self.dense_queue.vectors.clone(), settings.temperature)
        self.queue.put(self.gathered_over_workers(key))
        self.dense_queue.put(self.gathered_over_workers(mean_key))
        terms = {
            "loss_global": (1 - settings.dense_weight) * of_vectors,
            "loss_dense": settings.dense_weight * of_cells,
        }
        return {**terms, "loss": terms["loss_global"] + terms["loss_dense"]}
