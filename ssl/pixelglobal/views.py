"""Two augmented views of each slice, and which of their pixels are twins.

A batch of our method is made of pairs of slices of different patients: slice i and slice i + N/2 share one draw of
both views, so each is the other's x~ ("we randomly sample another training image and apply the same data
augmentations"). All chance comes from an explicit CPU generator; pixels are moved on the device of the images.

Shape letters: N slices of a batch, D draws, S side of a view, M matched pixel pairs of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pixelglobal.config import Views
from pixelglobal.devices import send
from pixelglobal.geometry import read_view, twin_table, view_map


@dataclass(frozen=True)
class ViewDraw:
    """The random part of D views: where each is cut from, and how its intensities change."""

    maps: Tensor  # float64 [D, 2, 3], see geometry.view_map
    flip_horizontal: Tensor  # bool [D]
    contrast: Tensor  # float32 [D], 1 leaves the contrast alone
    gamma: Tensor  # float32 [D], 1 leaves intensities alone

    def to(self, device: torch.device) -> ViewDraw:
        """The same draw on a device."""
        return ViewDraw(*(send(t, device) for t in vars(self).values()))

    def twice(self) -> ViewDraw:
        """The draws for a batch of pairs: slice i and slice i + D get the same one."""
        return ViewDraw(*(torch.cat([t, t]) for t in vars(self).values()))


@dataclass(frozen=True)
class HuScale:
    """How stored HU become network inputs: clip range first, then (hu - mean) / std."""

    hu_min: float
    hu_max: float
    mean_hu: float
    std_hu: float
    scope: str = "dataset"  # "slice": every slice its own mean and std


@dataclass(frozen=True)
class ViewPair:
    """Everything a method needs of a batch: both views [N, 1, S, S] and the M twins between them."""

    view_1: Tensor
    view_2: Tensor
    image_M: Tensor  # int64: which image a twin pair belongs to; the pairs of i and i + N/2 come in the same order
    pixel_1_M: Tensor  # int64: its flat pixel index in view 1
    pixel_2_M: Tensor  # int64: its twin's flat pixel index in view 2
    matched_N: tuple[int, ...]  # how many twins each image has
    has_partner: Tensor  # bool [N]: the slice at the other half is of another patient
    maps_1: Tensor  # float64 [N, 2, 3]: where view 1 lies in the slice, see geometry.view_map
    maps_2: Tensor  # float64 [N, 2, 3]
    source_size: tuple[int, int]  # rows and columns of the slice
    volume_N: Tensor | None = None  # int64: slices of one scan have one number
    depth_N: Tensor | None = None  # float32 in (0, 1): how far along z in its scan a slice lies
    stage: int = 0  # of the method's stages

    @property
    def side(self) -> int:
        """Pixels of a view along an axis."""
        return self.view_1.shape[-1]


@dataclass(frozen=True)
class ViewPlan:
    """What a method asks of the views of a step."""

    views: Views  # how they are drawn
    match: bool = False  # look up the twins of pixels
    pixels_per_image: int = 0  # at most so many of them; 0: all
    partners: bool = False  # the two halves of the batch share their draws
    same_geometry: bool = False  # view 2 is cut where view 1 is, and differs in intensities alone


def draw_views(n: int, views: Views, image_size: int, generator: torch.Generator) -> ViewDraw:
    """n draws of the pre-training augmentation for square slices of `image_size` pixels."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)

    scale = uniform(views.crop_scale_min, views.crop_scale_max)
    margin = (views.crop_size * scale / 2).clamp(max=image_size / 2)
    span = image_size - 2 * margin
    center = torch.stack([margin + span * uniform(0, 1), margin + span * uniform(0, 1)], -1)
    return _finish_draw(n, views, views.crop_size, center, scale, uniform, generator)


def draw_whole_slices(
    n: int, views: Views, image_size: int, zoom: tuple[float, float], generator: torch.Generator
) -> ViewDraw:
    """n draws for fine-tuning: the whole slice at its own size, with the same rotation, flips, contrast and gamma."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)

    center = torch.full((n, 2), image_size / 2, dtype=torch.float64)
    return _finish_draw(n, views, image_size, center, 1 / uniform(*zoom), uniform, generator)


def _finish_draw(
    n: int,
    views: Views,
    side: int,
    center: Tensor,
    scale: Tensor,
    uniform: Callable[[float, float], Tensor],
    generator: torch.Generator,
) -> ViewDraw:
    def happens(probability: float) -> Tensor:
        return torch.rand(n, generator=generator) < probability

    degrees = uniform(-views.rotation_degrees_max, views.rotation_degrees_max)
    rotation = torch.where(happens(views.rotation_probability), degrees * (math.pi / 180), 0.0)
    flip_horizontal = happens(views.flip_horizontal_probability)
    flip_vertical = happens(views.flip_vertical_probability)
    maps = view_map(center, scale, rotation, flip_horizontal, flip_vertical, side)
    contrast = torch.where(happens(views.contrast_probability), uniform(views.contrast_min, views.contrast_max), 1.0)
    gamma = torch.where(happens(views.gamma_probability), uniform(views.gamma_min, views.gamma_max), 1.0)
    return ViewDraw(maps, flip_horizontal, contrast.float(), gamma.float())


def render(images_hu: Tensor, draw: ViewDraw, side: int, scale: HuScale) -> Tensor:
    """Network inputs [N, 1, side, side] float32 from slices [N, H, W] in HU: cut, change intensities, z-score.

    Contrast acts around the view's own mean and gamma on intensities scaled to [0, 1] over the clip range, as in
    PGL; outside the slice there is air. Everything runs on the device of the images.
    """
    unit = (images_hu.float() - scale.hu_min) / (scale.hu_max - scale.hu_min)
    view = read_view(unit.unsqueeze(1), draw.maps, side)
    mean = view.mean((1, 2, 3), keepdim=True)
    view = ((view - mean) * draw.contrast.view(-1, 1, 1, 1) + mean).clamp(0, 1)
    view = view ** draw.gamma.view(-1, 1, 1, 1)
    return normalize(scale.hu_min + view * (scale.hu_max - scale.hu_min), scale)


def normalize(hu: Tensor, scale: HuScale) -> Tensor:
    """The z-score [N, 1, H, W] of intensities in HU, over the data set or over each slice."""
    if scale.scope == "slice":
        std = hu.std((1, 2, 3), keepdim=True).clamp_min(1.0)  # an empty slice has no spread; 1 HU keeps it finite
        return (hu - hu.mean((1, 2, 3), keepdim=True)) / std
    return (hu - scale.mean_hu) / scale.std_hu


def render_labels(labels: Tensor, draw: ViewDraw, side: int, swap: Tensor) -> Tensor:
    """Labels [N, side, side] int64 cut like the views; a left-right mirrored slice has its paired structures renamed.

    labels [N, H, W]; swap [C] int64: the label that each label becomes in a mirror (itself without a pair).
    """
    cut = read_view(labels.unsqueeze(1).float(), draw.maps, side, mode="nearest").squeeze(1).long()
    return torch.where(draw.flip_horizontal[:, None, None], swap[cut], cut)


def mirror_labels(structures: Sequence[str], left_right_pairs: Sequence[Sequence[str]]) -> Tensor:
    """The `swap` table of `render_labels`: index = label, value = its label in a left-right mirror.

    >>> mirror_labels(["Bladder", "LeftFemur", "RightFemur"], [["LeftFemur", "RightFemur"]]).tolist()
    [0, 1, 3, 2]
    """
    swap = torch.arange(len(structures) + 1)
    for left, right in left_right_pairs:
        for name in (left, right):
            if name not in structures:
                raise ValueError(
                    f"left_right_pairs names {name!r}, which is not a structure of this cohort: {', '.join(structures)}"
                )
        i, j = structures.index(left) + 1, structures.index(right) + 1
        swap[i], swap[j] = j, i
    return swap


def pair_partners(patients: Sequence[str], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An order of the batch in which slice i and slice i + N/2 are of different patients wherever that is possible.

    Who meets whom is drawn, so that the names of patients, which may tell their hospital, have no say in it. Returns
    (order int64 [N], has_partner bool [N]); a slice of an odd batch is left out.

    >>> order, has_partner = pair_partners(["a", "b", "a", "b"], torch.Generator().manual_seed(0))
    >>> order.tolist(), has_partner.tolist()
    ([0, 2, 1, 3], [True, True, True, True])
    """
    half = len(patients) // 2
    names = list(dict.fromkeys(patients))
    place = dict(zip(names, torch.randperm(len(names), generator=generator).tolist(), strict=True))
    order = sorted(range(len(patients)), key=lambda i: place[patients[i]])[: 2 * half]
    different = [patients[order[i]] != patients[order[i + half]] for i in range(half)]
    return torch.tensor(order), torch.tensor(different * 2, dtype=torch.bool)


def matched_pixels(table: Tensor, pixels_per_draw: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The twins of a dictionary [D, S*S] as three lists: draw, pixel of view 1, pixel of view 2.

    pixels_per_draw: keep that many of each draw's twins, drawn without replacement; 0 keeps all.
    """
    matched = table >= 0
    if 0 < pixels_per_draw < table.shape[1]:
        priority = torch.rand(table.shape, generator=generator)
        chosen = torch.where(matched, priority, -1.0).topk(pixels_per_draw, dim=1).indices
        kept = torch.zeros_like(matched).scatter_(1, chosen, True)
        matched = matched & kept
    draw, pixel_1 = matched.nonzero(as_tuple=True)
    return draw, pixel_1, table[draw, pixel_1]


def make_view_pair(
    images_hu: Tensor,
    has_partner: Tensor,
    views: Views,
    scale: HuScale,
    *,
    match: bool,
    pixels_per_image: int,
    generator: torch.Generator,
    partners: bool = True,
    same_geometry: bool = False,
) -> ViewPair:
    """Draw and render both views of a batch [N, H, W] and look up their twins; see `ViewPlan` for the switches.

    match=False (no loss on pixels) leaves the lists of twins empty. The dictionary is made on the CPU, where the draws
    are: its length is then known without waiting for the device of the images.
    """
    n, height, width = images_hu.shape
    device, side = images_hu.device, views.crop_size
    draws = n // 2 if partners else n
    draw_1, draw_2 = (draw_views(draws, views, width, generator) for _ in range(2))
    if same_geometry:
        draw_2 = replace(draw_2, maps=draw_1.maps, flip_horizontal=draw_1.flip_horizontal)
    image_M = pixel_1 = pixel_2 = torch.zeros(0, dtype=torch.long)
    if match:
        table = twin_table(draw_1.maps, draw_2.maps, side, height, width)
        image_M, pixel_1, pixel_2 = matched_pixels(table, pixels_per_image, generator)
    if partners:
        draw_1, draw_2 = draw_1.twice(), draw_2.twice()
        image_M, pixel_1, pixel_2 = torch.cat([image_M, image_M + draws]), pixel_1.repeat(2), pixel_2.repeat(2)
    matched_N = tuple(torch.bincount(image_M, minlength=n).tolist())
    draw_1, draw_2 = draw_1.to(device), draw_2.to(device)
    return ViewPair(
        render(images_hu, draw_1, side, scale),
        render(images_hu, draw_2, side, scale),
        send(image_M, device),
        send(pixel_1, device),
        send(pixel_2, device),
        matched_N,
        send(has_partner, device),
        draw_1.maps,
        draw_2.maps,
        (height, width),
    )
