"""Crops as authors of methods have drawn them: by the share of the image's area (random resized crop)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pixelglobal.config.section import Section


class CropSettings(Section):
    """Crops by area, for methods whose authors say them so; `views.crop_scale_min` and `_max` are then not used."""

    crop_area_min: float = Field(0.08, gt=0, le=1)  # share of the slice's area, drawn uniformly
    crop_area_max: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _check_crop_areas(self) -> Self:
        if self.crop_area_min > self.crop_area_max:
            raise ValueError(f"crop_area_min={self.crop_area_min} is above crop_area_max={self.crop_area_max}")
        return self

    @property
    def crop_area(self) -> tuple[float, float]:
        """Smallest and greatest share of the slice's area."""
        return self.crop_area_min, self.crop_area_max
