"""One draw of the augmentation, and slices and labels rendered through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelglobal.config.schema import Views
from pixelglobal.devices import send
from pixelglobal.views.geometry import read_view, view_map
from pixelglobal.views.intensity import HuScale, normalize


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
