"""One draw of the augmentation, and slices and labels rendered through it.

Shape letters: B images, C channels, I channels of an image, H rows, W columns, S side of a square image, L labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Float64, Int16, Int64, Integer
from torch import Tensor

from pixelglobal.config.schema import Augmentation, Finetune, Views
from pixelglobal.devices import send
from pixelglobal.views.geometry import read_view, view_map
from pixelglobal.views.intensity import HuScale, normalize, with_channels


@dataclass(frozen=True)
class ViewDraw:
    """The random part of views: where each is cut from, and how its intensities change."""

    maps: Float64[Tensor, "B 2 3"]  # see geometry.view_map
    flip_horizontal: Bool[Tensor, " B"]
    contrast: Float32[Tensor, " B"]  # 1 leaves the contrast alone
    gamma: Float32[Tensor, " B"]  # 1 leaves intensities alone

    def to(self, device: torch.device) -> "ViewDraw":
        """The same draw on a device."""
        return ViewDraw(
            maps=send(self.maps, device),
            flip_horizontal=send(self.flip_horizontal, device),
            contrast=send(self.contrast, device),
            gamma=send(self.gamma, device),
        )

    def twice(self) -> "ViewDraw":
        """The draws for a batch of pairs: of B draws, slice i and slice i + B get the same one."""
        return ViewDraw(
            maps=self.maps.repeat(2, 1, 1),
            flip_horizontal=self.flip_horizontal.repeat(2),
            contrast=self.contrast.repeat(2),
            gamma=self.gamma.repeat(2),
        )


def draw_views(
    n: int,
    views: Views,
    image_size: int,
    generator: torch.Generator,
    crop_area: tuple[float, float] | None = None,
) -> ViewDraw:
    """n draws of the pre-training augmentation for square slices of `image_size` pixels.

    crop_area: least and greatest share of the slice's area that a view shows, instead of the views' own crop scales.
    """
    if crop_area is None:
        scale = _uniform(n, views.crop_scale_min, views.crop_scale_max, generator)
    else:
        scale = _uniform(n, *crop_area, generator).sqrt() * image_size / views.crop_size
    margin = (views.crop_size * scale / 2).clamp(max=image_size / 2)
    span = image_size - 2 * margin
    center = torch.stack([margin + span * _uniform(n, 0, 1, generator) for _ in range(2)], -1)
    return _finish_draw(center, scale, views.crop_size, views, generator)


def draw_whole_slices(n: int, settings: Finetune, image_size: int, generator: torch.Generator) -> ViewDraw:
    """n draws for fine-tuning: the whole slice at its own size, moved, zoomed, rotated, mirrored, its HU changed."""
    zoom = _uniform(n, settings.scale_min, settings.scale_max, generator)
    reach = settings.translation_fraction * image_size
    center = torch.stack([image_size / 2 + _uniform(n, -reach, reach, generator) for _ in range(2)], -1)
    return _finish_draw(center, 1 / zoom, image_size, settings, generator)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Float64[Tensor, " {n}"]:
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


def _finish_draw(
    center: Float64[Tensor, "B 2"],
    scale: Float64[Tensor, " B"],
    side: int,
    settings: Augmentation,
    generator: torch.Generator,
) -> ViewDraw:
    """Draw rotation, flips, contrast and gamma of views whose centre and scale are known."""
    n = len(center)

    def happens(probability: float) -> Bool[Tensor, " B"]:
        return torch.rand(n, generator=generator) < probability

    degrees = _uniform(n, -settings.rotation_degrees_max, settings.rotation_degrees_max, generator)
    rotation = torch.where(happens(settings.rotation_probability), degrees * (math.pi / 180), 0.0)
    flip_horizontal = happens(settings.flip_horizontal_probability)
    flip_vertical = happens(settings.flip_vertical_probability)
    maps = view_map(center, scale, rotation, flip_horizontal, flip_vertical, side)
    change = happens(settings.contrast_probability)
    contrast = torch.where(change, _uniform(n, settings.contrast_min, settings.contrast_max, generator), 1.0)
    change = happens(settings.gamma_probability)
    gamma = torch.where(change, _uniform(n, settings.gamma_min, settings.gamma_max, generator), 1.0)
    return ViewDraw(maps, flip_horizontal, contrast.float(), gamma.float())


def render(
    images_hu: Int16[Tensor, "B *C H W"], draw: ViewDraw, side: int, scale: HuScale
) -> Float32[Tensor, "B I {side} {side}"]:
    """Network inputs from slices in HU: views are cut, their intensities changed and z-scored.

    Contrast acts around the view's own mean and gamma on intensities scaled to [0, 1] over the clip range, as in
    PGL, the same for all channels of a picture; outside the slice there is air. Everything runs on the device of the
    images.
    """
    unit = (images_hu.float() - scale.hu_min) / (scale.hu_max - scale.hu_min)
    view = read_view(with_channels(unit), draw.maps, side)
    mean = view.mean((1, 2, 3), keepdim=True)
    view = ((view - mean) * draw.contrast.view(-1, 1, 1, 1) + mean).clamp(0, 1)
    view = view ** draw.gamma.view(-1, 1, 1, 1)
    return normalize(scale.hu_min + view * (scale.hu_max - scale.hu_min), scale)


def render_labels(
    labels: Integer[Tensor, "B H W"], draw: ViewDraw, side: int, swap: Int64[Tensor, " L"]
) -> Int64[Tensor, "B {side} {side}"]:
    """Labels cut like the views; a left-right mirrored slice has its paired structures renamed.

    swap: the label that each label becomes in a mirror (itself without a pair), see `mirror_labels`.
    """
    cut = read_view(labels.unsqueeze(1).float(), draw.maps, side, mode="nearest").squeeze(1).long()
    return torch.where(draw.flip_horizontal[:, None, None], swap[cut], cut)


def mirror_labels(structures: Sequence[str], left_right_pairs: Sequence[Sequence[str]]) -> Int64[Tensor, " L"]:
    """The `swap` table of `render_labels`: index = label, value = its label in a left-right mirror.

    Raises ValueError for a pair that names a structure the cohort does not have.

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
