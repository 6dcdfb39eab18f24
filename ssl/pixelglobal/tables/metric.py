"""The metrics that rows hold, as tables print and test them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One column of rows.

    label: heading with its unit. points: unit of a difference. factor: from the rows' numbers to printed ones.
    """

    name: str
    column: str
    short: str
    label: str
    points: str
    factor: float
    higher_is_better: bool
    definition: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric("dice", "dice", "DSC", "DSC (%)", "DSC points", 100.0, True, "DSC is the Dice similarity coefficient"),
        Metric("hausdorff", "hausdorff_mm", "HD", "HD (mm)", "mm", 1.0, False,
               "HD is the Hausdorff distance, the maximum over contour points (100th percentile)"),
        Metric("hausdorff95", "hausdorff95_mm", "HD95", "HD95 (mm)", "mm", 1.0, False,
               "HD95 is the larger of the two directed 95th percentiles over contour points"),
        Metric("surface_dice", "surface_dice", "SDSC", "SDSC (%)", "SDSC points", 100.0, True,
               "SDSC is the surface Dice, the share of both contours within a tolerance of the other"),
    )
}  # fmt: skip


def metric_of(name: str) -> Metric:
    """The metric of this name; ValueError names those that there are.

    >>> metric_of("hausdorff95").label
    'HD95 (mm)'
    """
    if name not in METRICS:
        raise ValueError(f"metric={name!r}: expected {', '.join(METRICS)}")
    return METRICS[name]
