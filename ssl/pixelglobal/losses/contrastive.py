"""The contrastive losses of SimCLR, of MoCo and of Global-and-local (GL). Pure functions of tensors.

Source: Chen et al. 2020 (NT-Xent); He et al. 2020 (MoCo); Chaitanya et al. 2020, "Contrastive learning of global and
local features for medical image segmentation with limited annotations" (GL). Softmax and logarithms are in fp32 or
more.

Shape letters: B images, V views, D length of a vector, A anchor regions, C channels, h map rows, N vectors, Q points.
Points are the vectors of a queue. View 1 of every image comes before view 2 of every image; GL's lattice has 25
regions, of which 13 are anchors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

EXCLUDED = -1e9  # the logit of what is no negative: e to it is 0, and so is its gradient


def contrast(
    positive: Float[Tensor, "*#shape"],
    negatives: Float[Tensor, "*#shape N"],
    counts: Bool[Tensor, "*#shape N"],
    temperature: float,
) -> Float[Tensor, "*#shape"]:
    """-log(e^(p/t) / (e^(p/t) + sum over negatives of e^(n/t))), the l(a, b) of NT-Xent, for cosines.

    counts: which entries of `negatives` are negatives. Without any the loss is 0. Shapes are broadcast.
    """
    negative = (negatives.float() / temperature).masked_fill(~counts, EXCLUDED).logsumexp(-1)
    return F.softplus(negative - positive.float() / temperature)


def pairs_of_views(
    n_images: int, device: torch.device
) -> tuple[Bool[Tensor, "2*{n_images} 2*{n_images}"], Bool[Tensor, "2*{n_images} 2*{n_images}"]]:
    """Which views are positives and which are negatives of each other: plain SimCLR, GL's G^R.

    The positive of a view is the other view of its image; every other vector of the batch is a negative.
    """
    image_V = torch.arange(n_images, device=device).repeat(2)
    same = image_V[:, None] == image_V
    itself = torch.eye(2 * n_images, dtype=torch.bool, device=device)
    return same & ~itself, ~same


def pairs_of_partitions(
    partition_B: Int64[Tensor, " B"], volume_B: Int64[Tensor, " B"], *, match: bool
) -> tuple[Bool[Tensor, "2*B 2*B"], Bool[Tensor, "2*B 2*B"]]:
    """The same with GL's rule: slices of one partition of their volumes are never negatives of each other.

    partition_B, volume_B: the part of its volume that a slice lies in, and the volume.
    match: False is G^{D-}. True is G^D: slices of one partition of two volumes are positives too, view 1 with view 1
        and view 2 with view 2.
    """
    positive, _ = pairs_of_views(len(partition_B), partition_B.device)
    partition_V, volume_V = partition_B.repeat(2), volume_B.repeat(2)
    same_part = partition_V[:, None] == partition_V
    if match:
        view_V = torch.arange(len(positive), device=positive.device) // len(partition_B)
        across = same_part & (volume_V[:, None] != volume_V) & (view_V[:, None] == view_V)
        positive = positive | across
    return positive, ~same_part


def partition_of(depth_B: Float[Tensor, " B"], n_partitions: int) -> Int64[Tensor, " B"]:
    """Which of equal parts along z a slice lies in, from its relative position in [0, 1).

    >>> partition_of(torch.tensor([0.1, 0.25, 0.99]), 4).tolist()
    [0, 1, 3]
    """
    return (depth_B * n_partitions).floor().long().clamp(0, n_partitions - 1)


def nt_xent(
    vectors: Float[Tensor, "V D"], positive: Bool[Tensor, "V V"], negative: Bool[Tensor, "V V"], temperature: float
) -> Float[Tensor, ""]:
    """The mean of l(a, b) over every ordered pair (a, b) of positives.

    vectors: of any norm. A pair is compared with the negatives of its first.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # a cosine in half precision is too coarse
        unit = F.normalize(vectors.float(), dim=-1)
        cosine = unit @ unit.mT
    loss_VV = contrast(cosine, cosine[:, None], negative[:, None], temperature)
    return (loss_VV * positive).sum() / positive.sum().clamp_min(1)


def queue_contrast(
    query_ND: Float[Tensor, "N D"], key_ND: Float[Tensor, "N D"], queue: Float[Tensor, "Q D"], temperature: float
) -> Float[Tensor, ""]:
    """MoCo's loss, the mean of l(query, its key) with all vectors of the queue as negatives; all of unit norm."""
    with torch.autocast(query_ND.device.type, enabled=False):
        query_ND, key_ND, queue = query_ND.float(), key_ND.float(), queue.float()
        negatives = query_ND @ queue.mT
        positive = (query_ND * key_ND).sum(-1)
    return contrast(positive, negatives, torch.ones_like(negatives, dtype=torch.bool), temperature).mean()


# GL's 3 x 3 windows lie at (row, column) in quarters of S - 4. Thirteen are anchors; each has five negatives near it,
# fixed by its authors.
NEAR_NEGATIVES = {
    (0, 0): ((0, 2), (1, 1), (1, 2), (2, 0), (2, 1)),
    (0, 2): ((0, 0), (0, 4), (1, 1), (1, 3), (2, 2)),
    (0, 4): ((0, 2), (1, 2), (1, 3), (2, 3), (2, 4)),
    (2, 0): ((0, 0), (1, 1), (2, 2), (4, 0), (3, 1)),
    (2, 2): ((1, 1), (1, 3), (3, 1), (3, 3), (2, 0)),
    (2, 4): ((0, 4), (2, 2), (4, 4), (1, 3), (3, 3)),
    (4, 0): ((2, 0), (2, 1), (4, 2), (3, 1), (3, 2)),
    (4, 2): ((2, 2), (4, 0), (4, 4), (3, 1), (3, 3)),
    (4, 4): ((2, 3), (2, 4), (4, 2), (3, 3), (3, 2)),
    (1, 1): ((0, 0), (0, 2), (2, 0), (2, 2), (1, 3)),
    (1, 3): ((0, 2), (0, 4), (1, 1), (2, 2), (2, 4)),
    (3, 1): ((2, 0), (2, 2), (4, 0), (4, 2), (3, 3)),
    (3, 3): ((2, 2), (2, 4), (4, 2), (4, 4), (3, 1)),
}


LATTICE = 5  # regions along each axis
WINDOW = 3  # entries of the map along each axis of a region


def _index(place: tuple[int, int]) -> int:
    return place[0] * LATTICE + place[1]


ANCHORS = torch.tensor([_index(place) for place in NEAR_NEGATIVES])  # [A]


NEGATIVES_OF = torch.tensor([[_index(place) for place in near] for near in NEAR_NEGATIVES.values()])  # [A, 5]


def lattice_windows(maps: Shaped[Tensor, "B C h h"]) -> Shaped[Tensor, "B 25 C 3 3"]:
    """The 3 x 3 windows of a decoder's maps, row by row of the 5 x 5 lattice.

    Raises ValueError for a map under 8 x 8, whose windows would be the same.
    """
    side = maps.shape[-1]
    if side < LATTICE + WINDOW:
        raise ValueError(
            f"the decoder's map is {side} x {side}; GL's regions need at least {LATTICE + WINDOW} x "
            f"{LATTICE + WINDOW}. Raise views.crop_size or gl.decoder_blocks"
        )
    starts = torch.arange(LATTICE, device=maps.device) * (side - 4) // 4
    span = (starts[:, None] + torch.arange(WINDOW, device=maps.device)).flatten()  # [15]
    picked = maps.index_select(-2, span).index_select(-1, span)
    n, channels = maps.shape[:2]
    picked = picked.view(n, channels, LATTICE, WINDOW, LATTICE, WINDOW)
    return picked.permute(0, 2, 4, 1, 3, 5).reshape(n, LATTICE * LATTICE, channels, WINDOW, WINDOW)


def regional_contrast(
    regions_1: Float[Tensor, "B 25 D"],
    regions_2: Float[Tensor, "B 25 D"],
    seen_2: Bool[Tensor, "B 25"] | None,
    temperature: float,
) -> Float[Tensor, ""]:
    """GL's local loss: each region is told from near regions of both views by its likeness to its twin in the other.

    regions_1, regions_2: vectors of any norm, the same index showing the same place.
    seen_2: which regions of view 1 lie in view 2 as well; None for all. The mean is over the anchors that are seen and
        over both directions; a batch in which none is costs 0.
    """
    unit_1, unit_2 = F.normalize(regions_1.float(), dim=-1), F.normalize(regions_2.float(), dim=-1)
    if seen_2 is None:
        seen_2 = torch.ones(unit_2.shape[:2], dtype=torch.bool, device=unit_2.device)
    anchors, near = (index.to(unit_1.device, non_blocking=True) for index in (ANCHORS, NEGATIVES_OF))
    seen_BA, everywhere = seen_2[:, anchors], torch.ones_like(seen_2)
    total = unit_1.new_zeros(())
    for here, there, seen_here, seen_there in (
        (unit_1, unit_2, everywhere, seen_2),
        (unit_2, unit_1, seen_2, everywhere),
    ):
        anchor, twin = here[:, anchors], there[:, anchors]
        negatives = torch.cat([here[:, near], there[:, near]], 2)  # [B, A, 10, D]
        counts = torch.cat([seen_here[:, near], seen_there[:, near]], 2)
        with torch.autocast(anchor.device.type, enabled=False):
            cosines = torch.einsum("bad,band->ban", anchor, negatives)
        loss_BA = contrast((anchor * twin).sum(-1), cosines, counts, temperature)
        total = total + (loss_BA * seen_BA).sum() / seen_BA.sum().clamp_min(1)
    return total / 2
