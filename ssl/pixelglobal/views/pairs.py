"""Two augmented views of each slice, and which of their pixels are twins.

A batch of our method is made of pairs of slices of different patients: slice i and slice i + B/2 share one draw of
both views, so each is the other's x~ ("we randomly sample another training image and apply the same data
augmentations"). All random numbers come from an explicit CPU generator; pixels are moved on the device of the images.

Shape letters: B images, C channels, I channels of an image, H rows, W columns, S side of a square image, M matched
pixel pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int16, Int64
from torch import Tensor

from pixelglobal.config.schema import Views
from pixelglobal.devices import send
from pixelglobal.views.anatomy import Anatomy, anatomy_of
from pixelglobal.views.augment import draw_views, render
from pixelglobal.views.geometry import twin_table
from pixelglobal.views.intensity import HuScale


@dataclass(frozen=True)
class ViewPair:
    """Everything a method needs of a batch: both views and the matched pixel pairs ("twins") between them."""

    view_1: Float[Tensor, "B I S S"]
    view_2: Float[Tensor, "B I S S"]
    image_M: Int64[Tensor, " M"]  # the image of a pair of twins; the pairs of i and i + B/2 come in the same order
    pixel_1_M: Int64[Tensor, " M"]  # the twin's flat pixel index in view 1
    pixel_2_M: Int64[Tensor, " M"]  # the twin's flat pixel index in view 2
    matched_B: tuple[int, ...]  # how many pairs of twins each image has
    has_partner: Bool[Tensor, " B"]  # whether the slice in the same place of the other half is of another patient
    maps_1: Float64[Tensor, "B 2 3"]  # where view 1 lies in the slice, see geometry.view_map
    maps_2: Float64[Tensor, "B 2 3"]
    source_size: tuple[int, int]  # rows and columns of the slice
    volume_B: Int64[Tensor, " B"] | None = None  # slices of one scan have one number
    depth_B: Float[Tensor, " B"] | None = None  # how far along z in its scan a slice lies, in (0, 1)
    anatomy_1: Anatomy | None = None  # what view 1 shows, if the plan asks for it
    stage: int = 0  # which of the method's stages the batch belongs to

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
    crop_area: tuple[float, float] | None = None  # share of the slice that a view shows, instead of views.crop_scale_*
    anatomy: bool = False  # give what view 1 shows before its intensities were changed


def pair_partners(
    patients: Sequence[str], generator: torch.Generator
) -> tuple[Int64[Tensor, " B"], Bool[Tensor, " B"]]:
    """An order of the batch in which slice i and slice i + B/2 are of different patients wherever that is possible.

    Partners are drawn, so that they do not depend on the names of patients, which may tell their hospital. Returns
    (order, has_partner); a slice of an odd batch is left out.

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


def matched_pixels(
    table: Int64[Tensor, "B pixels"], pixels_per_draw: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"], Int64[Tensor, " M"]]:
    """The twins of a dictionary (see `twin_table`) as three lists: draw, pixel of view 1, pixel of view 2.

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
    images_hu: Int16[Tensor, "B *C H W"],
    has_partner: Bool[Tensor, " B"],
    plan: ViewPlan,
    scale: HuScale,
    generator: torch.Generator,
) -> ViewPair:
    """Draw and render both views of a batch and look up their twins, as the plan says.

    Without `plan.match` (no loss on pixels) the lists of twins are empty. The dictionary is made on the CPU, where the
    draws are: its length is then known without waiting for the device of the images.
    """
    n, (height, width) = len(images_hu), images_hu.shape[-2:]
    device, side = images_hu.device, plan.views.crop_size
    draws = n // 2 if plan.partners else n
    draw_1, draw_2 = (draw_views(draws, plan.views, width, generator, plan.crop_area) for _ in range(2))
    if plan.same_geometry:
        draw_2 = replace(draw_2, maps=draw_1.maps, flip_horizontal=draw_1.flip_horizontal)
    image_M = pixel_1 = pixel_2 = torch.zeros(0, dtype=torch.long)
    if plan.match:
        table = twin_table(draw_1.maps, draw_2.maps, side, height, width)
        image_M, pixel_1, pixel_2 = matched_pixels(table, plan.pixels_per_image, generator)
    if plan.partners:
        draw_1, draw_2 = draw_1.twice(), draw_2.twice()
        image_M, pixel_1, pixel_2 = torch.cat([image_M, image_M + draws]), pixel_1.repeat(2), pixel_2.repeat(2)
    matched_B = tuple(torch.bincount(image_M, minlength=n).tolist())
    draw_1, draw_2 = draw_1.to(device), draw_2.to(device)
    return ViewPair(
        view_1=render(images_hu, draw_1, side, scale),
        view_2=render(images_hu, draw_2, side, scale),
        image_M=send(image_M, device),
        pixel_1_M=send(pixel_1, device),
        pixel_2_M=send(pixel_2, device),
        matched_B=matched_B,
        has_partner=send(has_partner, device),
        maps_1=draw_1.maps,
        maps_2=draw_2.maps,
        source_size=(height, width),
        anatomy_1=anatomy_of(images_hu, draw_1.maps, side, scale.hu_min, scale.hu_max) if plan.anatomy else None,
    )
