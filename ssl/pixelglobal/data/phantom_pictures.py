"""Synthetic stained tissue in colour, so that pictures can be tried as phantoms let CT be tried.

Every picture has pink tissue with purple nuclei, and glands: rings of nuclei around a pale hollow. Stain, light and
noise differ from picture to picture. A nucleus and the hollow of a gland are the two structures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

STRUCTURES = ("Nucleus", "Gland")
TISSUE, NUCLEUS, HOLLOW = (226.0, 150.0, 190.0), (112.0, 66.0, 150.0), (240.0, 224.0, 236.0)


def make_phantom_pictures(
    folder: Path, *, n_labelled: int = 12, n_unlabelled: int = 12, size: int = 96, seed: int = 0
) -> Path:
    """Write `images/*.png` in RGB and, of the first n_labelled, `masks/*.png`; return the folder.

    The same arguments give the same pixels.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(n_labelled + n_unlabelled):
        picture, labels = make_phantom_picture(np.random.default_rng([seed, i]), size=size)
        Image.fromarray(picture).save(folder / "images" / f"tissue_{i:03d}.png")
        if i < n_labelled:
            Image.fromarray(labels).save(folder / "masks" / f"tissue_{i:03d}.png")
    return folder


def make_phantom_picture(rng: np.random.Generator, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture uint8 [H, W, 3] and its labels uint8 [H, W]: 0, 1 a nucleus, 2 the hollow of a gland."""
    y, x = np.mgrid[:size, :size].astype(float)
    labels = np.zeros((size, size), np.uint8)
    centers = rng.uniform(0, size, (max(1, size * size // 250), 2))
    for cy, cx in rng.uniform(0.2 * size, 0.8 * size, (2, 2)):
        radius, wave = rng.uniform(0.1, 0.16) * size, rng.uniform(0, 6)
        angle = np.arctan2(y - cy, x - cx)
        edge = radius * (1 + 0.12 * np.sin(3 * angle + wave))
        distance = np.hypot(y - cy, x - cx)
        labels[distance < edge] = 2
        centers = centers[np.hypot(centers[:, 0] - cy, centers[:, 1] - cx) > 1.5 * radius]
        around = np.arange(0, 2 * np.pi, 5.5 / (1.25 * radius))
        ring = np.stack([cy + 1.25 * radius * np.sin(around), cx + 1.25 * radius * np.cos(around)], 1)
        centers = np.concatenate([centers, ring])
    for cy, cx in centers:
        (a, b), turn = rng.uniform(1.6, 2.8, 2), rng.uniform(0, np.pi)
        along, across = (
            (y - cy) * np.sin(turn) + (x - cx) * np.cos(turn),
            (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn),
        )
        labels[(np.hypot(along / a, across / b) < 1) & (labels != 2)] = 1
    stain = np.array([TISSUE, NUCLEUS, HOLLOW]) + rng.normal(scale=12, size=(3, 3))
    cloud = ndimage.gaussian_filter(rng.normal(size=(size, size)), 4)
    picture = stain[labels] + (14 * cloud / cloud.std() * (labels != 2))[..., None]
    picture = ndimage.gaussian_filter(picture, (0.6, 0.6, 0)) * rng.uniform(0.85, 1.1)
    picture += rng.normal(scale=7, size=picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), labels
