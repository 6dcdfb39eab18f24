"""GL: contrast of whole slices for the encoder, then of local regions for the decoder.

Source: Chaitanya et al. 2020, "Contrastive learning of global and local features for medical image segmentation with
limited annotations". Stage 0 trains the encoder, stage 1 the first blocks of the decoder over a frozen encoder
(`gl.schedule=two_stage`). What differs from the paper is in docs/method.md.

Shape letters: B images, S side of a square image, C channels, h map rows, R regions, D length of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelglobal.config.schema import Config, Network
from pixelglobal.config.section import Section
from pixelglobal.losses.contrastive import (
    lattice_windows,
    nt_xent,
    pairs_of_partitions,
    pairs_of_views,
    partition_of,
    regional_contrast,
)
from pixelglobal.methods.base import Method, Variant
from pixelglobal.methods.crops import CropSettings
from pixelglobal.networks.heads import MlpHead
from pixelglobal.networks.unet import ResUNet
from pixelglobal.views.alignment import read_points, sees
from pixelglobal.views.geometry import pixel_centers, to_source
from pixelglobal.views.pairs import ViewPair, ViewPlan


class GlSettings(CropSettings):
    """Global-and-local (Chaitanya et al. 2020). Numbers are its authors' unless a comment says otherwise."""

    presets = {"small": {"hidden": 256}, "smoke": {"hidden": 64, "outputs": 32}}

    variant: Literal["random", "partition_negatives", "partition"] = "partition"  # G^R | G^{D-} | G^D
    n_partitions: int = Field(4, ge=1)  # of a volume, along z; a batch has a slice of each, but for G^R
    schedule: Literal["two_stage", "joint", "global_only"] = "two_stage"  # joint is ours: both losses, weight 1
    # A region of view 1 is in view 2 at the same place, both being cut alike, or (ours) where the affine maps say
    regions: Literal["shared_geometry", "dictionary"] = "shared_geometry"
    decoder_blocks: int = Field(3, ge=1)  # pre-trained, from the coarsest; 3 end at a quarter of the resolution
    hidden: int = Field(1024, ge=1)
    outputs: int = Field(128, ge=1)
    head_batch_norm: bool = False
    temperature: float = Field(0.1, gt=0)
    flips: bool = False  # the authors pre-train with crops and intensities alone
    rotation: bool = False
    crop_area_min: float = Field(0.271, gt=0, le=1)  # windows of 100 x 100 of slices of 192 x 192
    crop_area_max: float = Field(0.271, gt=0, le=1)
    contrast_min: float = Field(0.7, gt=0)
    contrast_max: float = Field(1.3, gt=0)
    intensity_probability: float = Field(1.0, ge=0, le=1)  # of a changed contrast and of a changed gamma


class RegionHead(nn.Module):
    """Maps of the decoder to vectors of regions: two 1 x 1 convolutions, then one dense layer on each 3 x 3 window."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.cells = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
        )
        self.window = nn.Linear(9 * channels, outputs, bias=False)

    def forward(self, maps: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
        """Vectors [2B, R, D] of both views' maps [2B, C, h, h]; move puts the cells of both views in one place."""
        regions: Tensor = self.window(lattice_windows(move(self.cells(maps))).flatten(2))
        return regions


class Student(nn.Module):
    """Encoder and decoder, each with the head of its loss."""

    def __init__(self, network: Network, settings: GlSettings) -> None:
        super().__init__()
        widths = network.decoder_widths
        if settings.decoder_blocks > len(widths):
            raise ValueError(
                f"gl.decoder_blocks={settings.decoder_blocks}, but network.decoder_widths has {len(widths)} entries"
            )
        self.backbone = ResUNet(network)
        self.global_head = MlpHead(
            self.backbone.vector_channels,
            settings.hidden,
            settings.outputs,
            batch_norm=settings.head_batch_norm,
        )
        self.local_head = RegionHead(widths[settings.decoder_blocks - 1], settings.outputs)
        self.blocks = settings.decoder_blocks
        self.map_stride = 1 << (len(widths) - self.blocks)

    def forward(
        self, views: Tensor, with_global: bool, with_local: bool, move: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Vectors [2B, D] and regions [2B, R, D] of both views [2B, 1, S, S]; a loss that is off gets None.

        Without the global loss the encoder is frozen; its batch norms go on using and gathering batch statistics.
        """
        with torch.set_grad_enabled(with_global and torch.is_grad_enabled()):
            features = self.backbone.encode(views)
        vectors = self.global_head(features[-1].mean((2, 3))) if with_global else None
        regions = self.local_head(self.backbone.decoder(features, self.blocks), move) if with_local else None
        return vectors, regions


class Gl(Method):
    """GL with its variants G^R, G^{D-} and G^D; without its local half and with BN in the head it is SimCLR."""

    name = "gl"
    Settings: ClassVar[type[Section]] = GlSettings
    variants = {"gl": Variant("GL", "#e69f00")}
    citation = "Chaitanya et al. 2020, Contrastive learning of global and local features for medical image segmentation"

    student: Student

    def __init__(self, config: Config, settings: GlSettings | None = None) -> None:
        super().__init__(config)
        self.settings = settings or cast(GlSettings, config.methods[self.name])
        self.stages = 2 if self.settings.schedule == "two_stage" else 1
        self.student = Student(config.network, self.settings)

    @classmethod
    def slices_of_a_scan(cls, config: Config, /) -> int:
        """One of each partition, since slices of one partition are no negatives; with plain negatives slices alone."""
        settings = cast(GlSettings, config.methods[cls.name])
        return 1 if settings.variant == "random" else settings.n_partitions

    def view_plan(self, stage: int) -> ViewPlan:
        """Small crops without flips or rotation; views of regions are cut alike unless the dictionary finds them."""
        settings = self.settings
        changed = {
            "contrast_min": settings.contrast_min,
            "contrast_max": settings.contrast_max,
            "contrast_probability": settings.intensity_probability,
            "gamma_probability": settings.intensity_probability,
        }
        if not settings.rotation:
            changed["rotation_probability"] = 0.0
        if not settings.flips:
            changed |= {"flip_horizontal_probability": 0.0, "flip_vertical_probability": 0.0}
        alike = self._works_on(stage)[1] and settings.regions == "shared_geometry"
        # The authors' second stage has whole slices at their own resolution; views.crop_scale_* come nearest to it.
        area = None if alike else settings.crop_area
        return ViewPlan(self.views.model_copy(update=changed), same_geometry=alike, crop_area=area)

    def _works_on(self, stage: int) -> tuple[bool, bool]:
        """Whether the global and the local loss are on."""
        return {"joint": (True, True), "global_only": (True, False), "two_stage": (stage == 0, stage == 1)}[
            self.settings.schedule
        ]

    def losses(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """loss_global and loss_local, those of the stage. Negatives are the worker's own slices."""
        dictionary = self.settings.regions == "dictionary"
        move = partial(to_the_places_of_view_1, pair=pair) if dictionary else nn.Identity()
        views = torch.cat([pair.view_1, pair.view_2])
        vectors, regions = self.run_student(views, *self._works_on(pair.stage), move)
        terms = {}
        if vectors is not None:
            terms["loss_global"] = nt_xent(vectors, *self._pairs(pair), self.settings.temperature)
        if regions is not None:
            seen = regions_in_both_views(pair, pair.side // self.student.map_stride) if dictionary else None
            regions_1, regions_2 = regions.chunk(2)
            terms["loss_local"] = regional_contrast(regions_1, regions_2, seen, self.settings.temperature)
        return {**terms, "loss": torch.stack(list(terms.values())).sum()}

    def _pairs(self, pair: ViewPair) -> tuple[Tensor, Tensor]:
        if self.settings.variant == "random":
            return pairs_of_views(len(pair.view_1), pair.view_1.device)
        assert pair.depth_B is not None
        assert pair.volume_B is not None
        partition = partition_of(pair.depth_B, self.settings.n_partitions)
        return pairs_of_partitions(partition, pair.volume_B, match=self.settings.variant == "partition")

    def exported(self) -> dict[str, nn.Module]:
        """The encoder and the decoder's pre-trained blocks, with their heads."""
        student = self.student
        parts: dict[str, nn.Module] = {
            "student.encoder": student.backbone.encoder,
            "student.global_head": student.global_head,
        }
        if self.settings.schedule != "global_only":
            blocks = student.backbone.decoder.blocks[: self.settings.decoder_blocks]
            parts |= {f"student.decoder.blocks.{i}": block for i, block in enumerate(blocks)}
            parts["student.local_head"] = student.local_head
        return parts


def _cells_of_view_1(pair: ViewPair, side: int) -> Tensor:
    """The source points [B, h * h, 2] under the cells of view 1's map."""
    return to_source(pair.maps_1, pixel_centers(side, pair.maps_1) * (pair.side / side))


def to_the_places_of_view_1(cells: Tensor, pair: ViewPair) -> Tensor:
    """Both views' maps [2B, C, h, h], those of view 2 read anew at the cells of view 1."""
    cells_1, cells_2 = cells.float().chunk(2)
    points = _cells_of_view_1(pair, cells.shape[-1])
    return torch.cat([cells_1, read_points(cells_2, pair.maps_2, points, pair.side).view_as(cells_1)])


def regions_in_both_views(pair: ViewPair, side: int) -> Tensor:
    """Which regions of view 1, on maps of h x h, lie wholly in view 2: bool [B, R]."""
    seen = sees(pair.maps_2, _cells_of_view_1(pair, side), pair.side).view(-1, 1, side, side)
    return lattice_windows(seen).flatten(2).all(-1)
