"""Detection of lesions: which of them were found, how many findings are none, and how well the found ones are drawn.

The Dice of a whole scan hides small lesions behind large ones. Here each connected component of the reference is a
lesion, and each of the prediction a finding; voxels that touch by a face, an edge or a corner belong together. Findings
are matched to lesions one to one, the greatest intersection over union first (panoptica's threshold matching, Kofler et
al., arXiv 2312.02608).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label

LEAST_OVERLAP = 0.1  # intersection over union of a match; lesions are small, and "found" is not "well drawn"
WORDS = ("tumor", "tumour", "lesion", "metastas", "nodule")


@dataclass(frozen=True)
class LesionScore:
    """Counts of one scan. dice: mean over the lesions that were found, NaN if there are none."""

    n_lesions: int
    n_findings: int
    n_found: int
    dice: float


def is_lesion(structure: str) -> bool:
    """Whether the name of a structure says that it is made of lesions.

    >>> is_lesion("Liver_Tumour"), is_lesion("Liver")
    (True, False)
    """
    return any(word in structure.lower() for word in WORDS)


def score_lesions(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], *, least_overlap: float = LEAST_OVERLAP
) -> LesionScore:
    """Match the findings of a prediction to the lesions of a reference of the same shape.

    least_overlap: intersection over union, above 0, from which a finding is a lesion.

    >>> reference, prediction = np.zeros((2, 1, 12), bool)
    >>> reference[0, 1:4] = reference[0, 8:10] = prediction[0, 2:5] = prediction[0, 6] = True
    >>> score_lesions(prediction, reference)
    LesionScore(n_lesions=2, n_findings=2, n_found=1, dice=0.6666666666666666)
    """
    touching = generate_binary_structure(reference.ndim, reference.ndim)
    lesions, n_lesions = label(reference, touching)
    findings, n_findings = label(prediction, touching)
    shared = np.bincount(
        (lesions.astype(np.int64) * (n_findings + 1) + findings).ravel(), minlength=(n_lesions + 1) * (n_findings + 1)
    ).reshape(n_lesions + 1, n_findings + 1)
    sizes = shared.sum(1)[1:, None] + shared.sum(0)[None, 1:]
    both = shared[1:, 1:]
    overlap = both / np.maximum(sizes - both, 1)
    dice, matched_lesions, matched_findings = [], set(), set()
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        i, j = divmod(int(place), n_findings)
        if overlap[i, j] < least_overlap:
            break
        if i not in matched_lesions and j not in matched_findings:
            dice.append(2 * both[i, j] / sizes[i, j])
            matched_lesions.add(i)
            matched_findings.add(j)
    return LesionScore(n_lesions, n_findings, len(dice), float(np.mean(dice)) if dice else float("nan"))
