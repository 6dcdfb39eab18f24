"""Fine-tuned models that segment slices together: mean probabilities, mirrored passes, and how unsure they are.

Shape letters: B images, H rows, W columns, C channels, L labels, Z slices of a scan, S side of a square image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelglobal.data.cohorts import Cohort
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.devices import autocast, send
from pixelglobal.evaluation.load_segmenter import load_segmenter
from pixelglobal.networks.segmenter import Segmenter
from pixelglobal.networks.uncertainty import channel_mask, entropy
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import model_folder
from pixelglobal.training.cohort_statistics import describe, no_ct, read_cohort_statistics
from pixelglobal.views.augment import mirror_labels
from pixelglobal.views.intensity import HuScale, normalize, with_channels

DROPOUT_PASSES = 20  # as the paper takes for the teacher
DROPOUT_PROBABILITY = 0.5  # of whole channels of the decoder's features, as in pre-training
SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class Segmentation:
    """What models make of the stored slices of a scan, on the stored grid."""

    labels: np.ndarray  # uint8 [Z, S, S]
    confidence: np.ndarray  # float16 [Z, S, S], the mean probability of the label
    probabilities: np.ndarray | None  # float16 [L, Z, S, S], background first
    uncertainty: np.ndarray | None  # float16 [Z, S, S] in [0, 1], entropy of the mean over dropout passes and models
    disagreement: np.ndarray | None  # float16 [Z, S, S] in [0, 1], what the models disagree about


@dataclass(frozen=True)
class _Member:
    segmenter: Segmenter
    scale: HuScale
    precision: str


class Ensemble:
    """One or several models of the same structures and the same grid.

    structures: their names in the order of label values; grid: how slices are made of scans.
    facts: what model.json of the first model holds; sources: the folders of the models.
    """

    def __init__(self, folders: Sequence[Path], device: torch.device, *, grid: StoredGrid | None = None) -> None:
        """Load models. Raises ValueError if a folder holds no segmenter, or if the models do not fit together.

        grid: that of the store, for models of versions that did not keep it.
        """
        if not folders:
            raise ValueError("no model was given; expected the folder of at least one fine-tuning")
        self.sources, self._device = tuple(folders), device
        self._members: list[_Member] = []
        for folder in folders:
            segmenter, scale, facts = load_segmenter(folder, device)
            if grid is not None:
                facts = {"grid": grid.facts(), "left_right_pairs": []} | facts
            _require_grid(folder, facts)
            if not self._members:
                self.facts = facts
            for name in ("structures", "grid", "left_right_pairs"):
                if facts[name] != self.facts[name]:
                    raise ValueError(
                        f"{folder} has {name} {facts[name]}, but {folders[0]} has {self.facts[name]}; expected models "
                        "of the same structures and grid. Give models that were fine-tuned on one store"
                    )
            segmenter.eval()
            self._members.append(_Member(segmenter, scale, facts["finetune"]["precision"]))
        self.structures = tuple(self.facts["structures"])
        self.grid = StoredGrid.of(self.facts["grid"])
        self._statistics = read_cohort_statistics(model_folder(folders[0]))

    def __len__(self) -> int:
        return len(self._members)

    def require_fits(self, cohort: Cohort, source: Path) -> None:
        """Raise ValueError if the scans of a cohort are not of the kind that the models take: CT, grey or in colour."""
        ours = _kind(not self.grid.is_ct, self.facts["network"].get("in_channels", 1))
        theirs = _kind(cohort.intensity_range is not None, cohort.channels)
        if ours != theirs:
            raise ValueError(
                f"{source} holds {theirs}, and {self.sources[0]} was trained on {ours}; give scans "
                "of the kind that the model was trained on, or another model"
            )

    def flags(self, images_hu: np.ndarray, spacing_mm: tuple[float, float, float], shape: tuple[int, int]) -> list[str]:
        """Why a scan may be outside of what the first model was trained on, from its stored slices int16 [Z, S, S], its
        spacing (z, y, x), and its rows and columns; empty if it seems not. See `training.cohort_statistics`."""
        first = self._members[0]
        encoder = first.segmenter.backbone.encoder
        scan = describe(images_hu, spacing_mm, shape, self.grid, encoder, first.scale, self._device)
        if self._statistics is None:
            return [reason] if (reason := no_ct(scan.hu)) else []
        return self._statistics.flags(scan)

    @torch.no_grad()
    def segment(
        self,
        images_hu: np.ndarray,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
        mirrors: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Segment stored slices int16 [Z, S, S], or [Z, C, S, S] of pictures.

        mirrors: the mean with the slice mirrored from left to right. uncertainty: also take dropout passes.
        progress: called with slices done and slices in all.
        Raises ValueError if the models were not trained on mirrored slices.
        """
        if mirrors:
            refuse_mirrors(self.facts)
        n = (len(images_hu), *images_hu.shape[-2:])
        labels = np.empty(n, np.uint8)
        confidence = np.empty(n, np.float16)
        kept = np.empty((len(self.structures) + 1, *n), np.float16) if probabilities else None
        unsure = np.empty(n, np.float16) if uncertainty else None
        apart = np.empty(n, np.float16) if uncertainty and len(self) > 1 else None
        for begin in range(0, len(images_hu), SLICES_AT_ONCE):
            part = slice(begin, begin + SLICES_AT_ONCE)
            image = with_channels(send(torch.from_numpy(images_hu[part]), self._device))
            of_models = torch.stack(list(self._scores(image, mirrors))).softmax(2)
            mean = of_models.mean(0)
            top = mean.max(1)
            labels[part], confidence[part] = top.indices.cpu(), top.values.cpu()
            if kept is not None:
                kept[:, part] = mean.transpose(0, 1).cpu()
            if unsure is not None:
                unsure[part] = self._relative_entropy(self._under_dropout(image, seed)).cpu()
            if apart is not None:
                expected = torch.stack([self._relative_entropy(p) for p in of_models]).mean(0)
                apart[part] = (self._relative_entropy(mean) - expected).clamp_min(0).cpu()
            if progress:
                progress(min(part.stop, len(images_hu)), len(images_hu))
        return Segmentation(labels, confidence, kept, unsure, apart)

    def _scores(self, image: Tensor, mirrors: bool) -> Iterator[Tensor]:
        """Of every model, the scores [B, L, H, W] of slices in HU [B, 1, H, W]."""
        swap = mirror_labels(self.structures, self.facts["left_right_pairs"]).to(self._device)
        for member in self._members:
            with autocast(self._device, member.precision):
                scores = member.segmenter(_input(image, member.scale)).float()
                if mirrors:
                    mirrored = member.segmenter(_input(image.flip(-1), member.scale)).float()
                    scores = (scores + mirrored.flip(-1)[:, swap]) / 2
            yield scores

    def _under_dropout(self, image: Tensor, seed: int) -> Tensor:
        """The mean probability [B, L, H, W] over dropout passes of every model.

        Whole channels of the decoder's features are dropped, the same in every slice, so that a map does not depend on
        how many slices are worked on at once.
        """
        total: Tensor | None = None
        for number, member in enumerate(self._members):
            draws, head = generator(seed, "dropout passes", number), member.segmenter.classifier
            with autocast(self._device, member.precision):
                features = member.segmenter.backbone(_input(image, member.scale))
                for _ in range(DROPOUT_PASSES):
                    mask = channel_mask(1, features.shape[1], DROPOUT_PROBABILITY, head.weight, draws)[:, :, None, None]
                    passed = F.conv2d(features, head.weight * mask, head.bias).float().softmax(1)
                    total = passed if total is None else total + passed
        assert total is not None
        return total / (DROPOUT_PASSES * len(self))

    def _relative_entropy(self, probability: Tensor) -> Tensor:
        """Entropy over the labels, divided by its maximum: [B, L, H, W] to [B, H, W]."""
        return entropy(probability.movedim(1, -1)) / math.log(probability.shape[1])


def refuse_mirrors(facts: Mapping[str, Any]) -> None:
    """Raise ValueError if a model was not trained on mirrored slices, or if a side has no other side."""
    if facts["finetune"]["flip_horizontal_probability"] == 0:
        raise ValueError(
            "this model was fine-tuned without mirrored slices (finetune.flip_horizontal_probability=0), so a mirrored "
            "pass would be new to it; predict without mirrors"
        )
    paired = {name for pair in facts["left_right_pairs"] for name in pair}
    alone = [name for name in facts["structures"] if _has_a_side(name) and name not in paired]
    if alone:
        raise ValueError(
            f"the structures {', '.join(alone)} have a side by their names and no other side in left_right_pairs, so a "
            "mirror would confuse them; predict without mirrors, or fine-tune on a cohort whose dataset.json pairs them"
        )


def _has_a_side(name: str) -> bool:
    words = "".join(c.lower() if c.isalpha() else " " for c in name).split()
    return any(side in name.lower() for side in ("left", "right")) or bool({"l", "r"} & set(words))


def _kind(pictures: bool, channels: int) -> str:
    if not pictures:
        return "CT"
    return "pictures in colour" if channels > 1 else "grey pictures"


def _input(image: Tensor, scale: HuScale) -> Tensor:
    return normalize(image, scale).contiguous(memory_format=torch.channels_last)


def _require_grid(folder: Path, facts: Mapping[str, Any]) -> None:
    if "grid" not in facts:
        raise ValueError(
            f"{folder} was written by pixelglobal {facts.get('pixelglobal_version')}, whose models do not say how "
            "slices are made of scans; expected `grid` in model.json. Fine-tune again, or evaluate it on its store"
        )
