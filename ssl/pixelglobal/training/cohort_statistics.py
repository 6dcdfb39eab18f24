"""Whether a scan resembles those that a model was trained on: geometry, HU and the encoder's features of the cohort.

A scan is described by three vectors, and how far it is from the training scans is one number for each: the greatest
deviation in standard deviations (geometry, HU), or the root of the mean squared deviation (features, which are
hundreds). How far is too far is calibrated on held-out patients: each is left out of the statistics in turn, and the
logarithms of these distances give a one-sided prediction limit for the next patient. A scan of the same cohort is
flagged with a probability of about `FALSE_FLAG_RATE`, however few the patients are. What is certainly no CT in HU, such
as an MR image, is recognised without any calibration.

Shape letters: Z slices of a scan, S side of a square image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from pixelglobal.data.store import Store
from pixelglobal.data.stored_grid import StoredGrid, crop_slices
from pixelglobal.devices import send
from pixelglobal.files import read_json_object, write_json
from pixelglobal.views.intensity import HuScale, normalize, with_channels

FILE = "cohort_statistics.json"
FALSE_FLAG_RATE = 0.05  # of a scan of the training cohort, over the three groups together
LEAST_PATIENTS = 4  # below that no limit can be calibrated
SLICES_FOR_FEATURES = 32  # evenly spaced; a mean over more changes little
HU_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
GEOMETRY = ("spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "field_of_view_y_mm", "field_of_view_x_mm")
GROUPS = ("geometry", "hu", "features")
SMALLEST_SPREAD = {"geometry": 0.05, "hu": 10.0, "features": 1e-3}  # 5 %, 10 HU; a cohort may have none


@dataclass(frozen=True)
class Description:
    """A scan as numbers. geometry: natural logarithms of GEOMETRY; hu: HU_PERCENTILES of its stored pixels; features:
    means over pixels and slices of the encoder's last maps."""

    geometry: np.ndarray
    hu: np.ndarray
    features: np.ndarray


def evenly_spaced(n_slices: int) -> np.ndarray:
    """The indices of at most SLICES_FOR_FEATURES slices of a scan, from its first to its last.

    >>> evenly_spaced(3).tolist(), len(evenly_spaced(200))
    ([0, 1, 2], 32)
    """
    return np.unique(np.linspace(0, n_slices - 1, SLICES_FOR_FEATURES).round().astype(int))


@torch.no_grad()
def describe(
    images_hu: np.ndarray,
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int],
    grid: StoredGrid,
    encoder: nn.Module,
    scale: HuScale,
    device: torch.device,
) -> Description:
    """Describe a scan by its stored slices int16 [Z, S, S], its spacing (z, y, x), and its rows and columns.

    grid: how the slices were made; the air that pads them is left out of the percentiles.
    """
    field_mm = (shape[0] * spacing_mm[1], shape[1] * spacing_mm[2])
    rows, columns = (crop_slices(n, grid.image_size)[0] for n in grid.size_on(shape, spacing_mm))
    chosen = evenly_spaced(len(images_hu))
    x = normalize(with_channels(send(torch.from_numpy(images_hu[chosen]), device)), scale)
    encoder.eval()
    features = encoder(x.contiguous(memory_format=torch.channels_last))[-1].float().mean((0, 2, 3))
    return Description(
        geometry=np.log([*spacing_mm, *field_mm]),
        hu=np.percentile(images_hu[..., rows, columns], HU_PERCENTILES),
        features=features.cpu().numpy().astype(np.float64),
    )


@dataclass(frozen=True)
class Group:
    """Mean and spread of a group over the training scans, and the distance from which a scan is flagged."""

    mean: list[float]
    spread: list[float]
    limit: float  # infinite if there were too few patients to calibrate it


@dataclass(frozen=True)
class CohortStatistics:
    """What a model keeps of the scans that it was fine-tuned on; no single scan can be told from it."""

    n_patients: int
    false_flag_rate: float
    groups: dict[str, Group]

    @staticmethod
    def of(descriptions: Sequence[Description], patients: Sequence[str]) -> CohortStatistics:
        """The statistics of scans, with limits from leaving out each patient in turn."""
        names = sorted(set(patients))
        groups = {}
        for name in GROUPS:
            values = np.stack([getattr(d, name) for d in descriptions])
            mean, spread = _moments(name, values)
            limit = math.inf
            if len(names) >= LEAST_PATIENTS:
                limit = _limit([_left_out(name, values, [p == one for p in patients]) for one in names])
            groups[name] = Group(mean.tolist(), spread.tolist(), limit)
        return CohortStatistics(len(names), FALSE_FLAG_RATE, groups)

    def distances(self, scan: Description) -> dict[str, float]:
        """How far a scan is from the training scans, for each group."""
        moments = {name: (np.array(g.mean), np.array(g.spread)) for name, g in self.groups.items()}
        return {name: _distance(name, getattr(scan, name), *moments[name]) for name in GROUPS}

    def flags(self, scan: Description) -> list[str]:
        """Why a scan may be outside of what the model knows, one sentence for each reason; empty if it seems not."""
        usual = self.groups["hu"].mean
        reasons = [reason] if (reason := no_ct(scan.hu)) and not no_ct(np.array(usual)) else []
        for name, distance in self.distances(scan).items():
            if distance > self.groups[name].limit and not (reasons and name == "hu"):
                reasons.append(self._reason(name, scan))
        return reasons

    def _reason(self, name: str, scan: Description) -> str:
        if name == "features":
            return "the encoder's features are unlike those of the training scans"
        group, values = self.groups[name], getattr(scan, name)
        worst = int(np.argmax(np.abs(values - group.mean) / group.spread))
        if name == "geometry":
            seen, mean = math.exp(values[worst]), math.exp(group.mean[worst])
            return f"{GEOMETRY[worst]} is {seen:.3g}, of the training scans about {mean:.3g}"
        seen, mean, unit = values[worst], group.mean[worst], "" if no_ct(np.array(group.mean)) else " HU"
        percentile = f"the {HU_PERCENTILES[worst]}th percentile"
        return f"{percentile} is {seen:.0f}{unit}, of the training scans about {mean:.0f}{unit}"


def no_ct(hu: np.ndarray) -> str | None:
    """Why these percentiles cannot be of a CT in HU, in which air is near -1000 and soft tissue near 0."""
    if hu[0] > -200:
        return f"no CT in HU: almost no voxel is below {hu[0]:.0f}, where air is near -1000 (an MR image, or no HU)"
    if hu[-1] < -200:
        return f"no CT in HU: almost no voxel is above {hu[-1]:.0f}, where tissue is near 0 (an empty scan, or no HU)"
    return None


def _moments(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return values.mean(0), np.maximum(spread, SMALLEST_SPREAD[name])


def _distance(name: str, values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> float:
    z = np.abs(values - mean) / spread
    return float(np.sqrt((z**2).mean()) if name == "features" else z.max())


def _left_out(name: str, values: np.ndarray, left_out: Sequence[bool]) -> float:
    """The distance of one patient's scans, the greatest, from the statistics of all others."""
    out = np.array(left_out)
    moments = _moments(name, values[~out])
    return max(_distance(name, value, *moments) for value in values[out])


def _limit(distances: Sequence[float]) -> float:
    """The one-sided prediction limit of the next distance, log-normal, with Bonferroni's share of the rate."""
    logs, n = np.log(np.maximum(distances, 1e-3)), len(distances)
    t = stats.t.ppf(1 - FALSE_FLAG_RATE / len(GROUPS), n - 1)
    return float(np.exp(logs.mean() + t * logs.std(ddof=1) * math.sqrt(1 + 1 / n)))


def write_cohort_statistics(
    model: Path, store: Store, cases: Sequence[str], encoder: nn.Module, scale: HuScale, device: torch.device
) -> Path:
    """Describe the scans that a model was trained and chosen on, and keep their statistics in the model's folder."""
    rows = store.cases.set_index("case")
    descriptions = []
    for case in cases:
        z, y, x = (float(rows.loc[case, f"spacing_{axis}_mm"]) for axis in "zyx")
        shape = int(rows.loc[case, "rows"]), int(rows.loc[case, "columns"])
        images = store.read_case(case).image_hu.numpy()
        descriptions.append(describe(images, (z, y, x), shape, store.grid, encoder, scale, device))
    statistics = CohortStatistics.of(descriptions, [str(rows.loc[case, "patient"]) for case in cases])
    facts = asdict(statistics)
    for group in facts["groups"].values():
        group["limit"] = None if math.isinf(group["limit"]) else group["limit"]  # JSON knows no infinity
    return write_json(model / FILE, facts)


def read_cohort_statistics(model: Path) -> CohortStatistics | None:
    """The statistics in a model folder; None for a model of an older version."""
    path = model / FILE
    if not path.is_file():
        return None
    facts: Mapping[str, Any] = read_json_object(path)
    groups = {
        name: Group(group["mean"], group["spread"], math.inf if group["limit"] is None else group["limit"])
        for name, group in facts["groups"].items()
    }
    return CohortStatistics(facts["n_patients"], facts["false_flag_rate"], groups)
