"""Jigsaw: nine tiles of a slice are shuffled, and the encoder tells in which order they lie.

Source: Noroozi & Favaro 2016, "Unsupervised learning of visual representations by solving jigsaw puzzles".

Shape letters: B images, S side of a square image, K outputs of a head. Here K is the number of permutations.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.devices import send
from pixelglobal.methods.base import Method, Variant
from pixelglobal.networks.heads import MlpHead
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.pairs import ViewPair, ViewPlan

GRID = 3  # tiles along each axis
TILE_SHARE = 64 / 75  # of a cell's side; the gap hides edges that go on in the next tile


class JigsawSettings(Section):
    """Jigsaw puzzles (Noroozi & Favaro 2016)."""

    presets = {"small": {"hidden": 512}, "smoke": {"hidden": 64, "permutations": 10}}

    permutations: int = Field(100, ge=2, le=1000)  # its authors: 1,000; Chen et al. 2019 (context restoration): fewer
    hidden: int = Field(4096, ge=1)


class Student(nn.Module):
    """An encoder of single tiles and a classifier of their vectors in a row."""

    def __init__(self, network: Network, settings: JigsawSettings) -> None:
        super().__init__()
        backbone = ResUNet(network)
        self.encoder = backbone.encoder
        vectors = GRID**2 * backbone.vector_channels
        self.classifier = MlpHead(vectors, settings.hidden, settings.permutations, batch_norm=True)

    def forward(self, tiles: Tensor) -> Tensor:
        """Scores [B, K] of the permutations of nine tiles of each image."""
        vectors = self.encoder(tiles.flatten(0, 1))[-1].mean((2, 3))
        scores: Tensor = self.classifier(vectors.view(len(tiles), -1))
        return scores


class Jigsaw(Method):
    """Jigsaw puzzles of view 1."""

    name = "jigsaw"
    Settings: ClassVar[type[Section]] = JigsawSettings
    variants = {"jigsaw": Variant("Jigsaw", "#fb8072")}
    citation = "Noroozi & Favaro 2016, Unsupervised learning of visual representations by solving jigsaw puzzles"

    student: Student
    permutations: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        settings = cast(JigsawSettings, config.methods[self.name])
        self.student = Student(config.network, settings)
        self.register_buffer("permutations", distant_permutations(settings.permutations))

    def view_plan(self, stage: int) -> ViewPlan:
        """Views that are upright, since the order of tiles is that of an upright slice."""
        upright = {"rotation_probability": 0.0, "flip_vertical_probability": 0.0}
        return ViewPlan(self.views.model_copy(update=upright))

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of the permutations, and the share that is told."""
        tiles = tiles_of(pair.view_1, generator)
        chosen = torch.randint(len(self.permutations), (len(tiles),), generator=generator)
        chosen = send(chosen, tiles.device)
        order = self.permutations[chosen][:, :, None, None, None].expand_as(tiles)
        scores = self.run_student(tiles.gather(1, order)).float()
        return {"loss": F.cross_entropy(scores, chosen), "accuracy": (scores.argmax(1) == chosen).float().mean()}

    def exported(self) -> dict[str, nn.Module]:
        """The encoder: there is no decoder in this method."""
        return {"student.encoder": self.student.encoder, "student.classifier": self.student.classifier}


def distant_permutations(count: int) -> Tensor:
    """Permutations of nine tiles, int64 [count, 9], that differ in as many places as possible; always the same ones.

    Each is that of 2,000 random candidates whose nearest chosen one is farthest (Hamming distance).
    """
    draws = torch.Generator().manual_seed(0)
    candidates = torch.rand(2000, GRID**2, generator=draws).argsort(1)
    chosen = candidates[:1]
    nearest = (candidates != chosen[0]).sum(1)
    while len(chosen) < count:
        chosen = torch.cat([chosen, candidates[nearest.argmax()][None]])
        nearest = torch.minimum(nearest, (candidates != chosen[-1]).sum(1))
    return chosen


def tiles_of(views: Tensor, generator: torch.Generator) -> Tensor:
    """Nine square tiles of each of the views [B, 1, S, S], each somewhere in its cell and with mean 0 and spread 1.

    A tile lies at the same place of its cell in all views of a batch.
    """
    cell = views.shape[-1] // GRID
    side = max(1, round(cell * TILE_SHARE))
    places = torch.randint(cell - side + 1, (GRID**2, 2), generator=generator).tolist()
    tiles = []
    for number, (down, right) in enumerate(places):
        top, left = number // GRID * cell + down, number % GRID * cell + right
        tiles.append(views[:, :, top : top + side, left : left + side])
    stacked = torch.stack(tiles, 1)
    mean, spread = stacked.mean((2, 3, 4), keepdim=True), stacked.std((2, 3, 4), keepdim=True)
    return (stacked - mean) / (spread + 1e-3)
