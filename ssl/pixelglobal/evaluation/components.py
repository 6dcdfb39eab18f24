"""Each structure's largest connected component: what a network sees far from it is a false positive."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def largest_components(labels: np.ndarray) -> np.ndarray:
    """A label volume uint8 [Z, rows, columns] in which each structure keeps its largest component alone.

    Voxels that touch, if only at a corner, are connected (26 neighbours). Not for tumours, which may be several, and
    not for structures of two parts. Of equal components, the first in the order of voxels is kept.

    >>> largest_components(np.array([[[1, 0, 1, 1, 0, 2]]], np.uint8))
    array([[[0, 0, 1, 1, 0, 2]]], dtype=uint8)
    """
    kept = np.zeros_like(labels)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        parts, _ = ndimage.label(labels[box] == label, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        kept[box][parts == sizes.argmax()] = label
    return kept
