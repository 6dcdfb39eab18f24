"""A group of settings, and the groups of the methods that ours is compared with: one section for each, its own only.

What the methods share (optimiser, schedule, moving average, batch, steps) is `pretrain.*`. A section of this file
changes nothing, not even the address of a pre-training, unless `pretrain.method` chooses its method.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pixelglobal.config.section import Section


class Gl(Section):
    """Global-and-local (Chaitanya et al. 2020). Numbers are its authors' unless a comment says otherwise."""

    variant: Literal["random", "partition_negatives", "partition"] = "partition_negatives"  # G^R | G^{D-} | G^D
    n_partitions: int = Field(4, ge=1)  # of a volume, along z
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


class Pgl(Section):
    """PGL (Xie et al. 2020); its code was never published, and the sizes are those of a re-implementation."""

    # roi_align: views are not rotated, as in PGL | grid_sample: they are | pooled: one vector an image, as in BYOL
    alignment: Literal["roi_align", "grid_sample", "pooled"] = "roi_align"
    stride: Literal[4, 8, 16, 32] = 32  # of the encoder's map that is aligned; deeper layers are not trained
    hidden: int = Field(4096, ge=1)
    outputs: int = Field(256, ge=1)


class Byol(Section):
    """BYOL (Grill et al. 2020)."""

    hidden: int = Field(4096, ge=1)
    outputs: int = Field(256, ge=1)


class SimClr(Section):
    """SimCLR (Chen et al. 2020)."""

    hidden: int = Field(2048, ge=1)
    outputs: int = Field(128, ge=1)
    temperature: float = Field(0.1, gt=0)


# Each method that comes with the library, and the section that it alone reads beside `views`, `network`, `pretrain`.
METHOD_SECTIONS: dict[str, str | None] = {
    "pixel_global": None,
    "gl": "gl",
    "pgl": "pgl",
    "byol": "byol",
    "simclr": "simclr",
    "dino": None,
}
