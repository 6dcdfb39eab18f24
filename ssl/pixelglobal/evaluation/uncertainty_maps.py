"""Where the teacher is unsure: uncertainty maps of whole slices (the paper's Figure 2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.data.stored_grid import StoredGrid
from pixelglobal.data.volumes import write_map
from pixelglobal.devices import place
from pixelglobal.evaluation.ensemble import Ensemble
from pixelglobal.methods.pixel_global import PixelGlobal, PixelGlobalSettings
from pixelglobal.networks.branch import MatchedPixels, teacher_uncertainty
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import read_model
from pixelglobal.views.intensity import HuScale, normalize, with_channels


@torch.no_grad()
def uncertainty_maps(folder: Path, images_hu: Tensor, device: torch.device, *, seed: int = 0) -> Tensor:
    """The teacher's U in [0, 1] of every pixel, float32 [Z, H, W], of stored slices int16 [Z, H, W] (Figure 2).

    folder: a pre-trained model whose config has pixel matching. Batch norms use their running averages, so a map does
    not depend on the slices beside it.
    """
    tensors, facts = read_model(folder)
    if "center_pixel" not in facts or not any(key.startswith("teacher.pixel_head.") for key in tensors):
        raise ValueError(
            f"{folder} was pre-trained with {facts.get('pretrain', {}).get('method')!r}, which has no head on pixels, "
            "so its pixels have no uncertainty; give a pre-training with pixels (gp, gpc, full), or a fine-tuning"
        )
    config = Config.model_validate({section: facts[section] for section in ("network", PixelGlobal.name)})
    settings = cast(PixelGlobalSettings, config.methods[PixelGlobal.name])
    teacher = settings.branch(config.network)
    prefixes = {"encoder.": "backbone.encoder.", "decoder.": "backbone.decoder."}
    state = {}
    for key, value in tensors.items():
        if key.startswith("teacher."):
            name = key.removeprefix("teacher.")
            for old, new in prefixes.items():
                name = new + name.removeprefix(old) if name.startswith(old) else name
            state[name] = value
    teacher.load_state_dict(state)
    place(teacher, device).eval()
    center = torch.tensor(facts["center_pixel"], device=device)
    height, width = images_hu.shape[-2:]
    draws = generator(seed, "uncertainty maps")
    every_pixel = torch.arange(height * width, device=device)
    image_M = torch.zeros_like(every_pixel)
    maps = []
    for image in images_hu:
        x = normalize(with_channels(image.to(device)[None]), HuScale(**facts["scale"]))
        features = teacher.backbone.encode(x)
        y_MC = teacher.decode_pixels(features, image_M, every_pixel, None)
        pixels = MatchedPixels(features, y_MC, image_M, every_pixel, (height * width,))
        u = teacher_uncertainty(teacher, center, pixels, settings.passes, draws)
        maps.append(u.view(height, width).float().cpu())
    return torch.stack(maps)


def uncertainty_of(
    model: Path, grid: StoredGrid, device: torch.device, *, seed: int = 0
) -> Callable[[Tensor], np.ndarray]:
    """The function from stored slices int16 [Z, S, S] to how unsure a model is of them, float32 [Z, S, S] in [0, 1].

    Of a pre-training it is the teacher's U, of a fine-tuning the entropy of its labels over dropout passes.
    grid: that of the slices. Raises ValueError for a pre-training without a pixel head.
    """
    if read_model(model)[1].get("kind") != "segmenter":
        return lambda images_hu: uncertainty_maps(model, images_hu, device, seed=seed).numpy()
    ensemble = Ensemble([model], device, grid=grid)

    def of_segmenter(images_hu: Tensor) -> np.ndarray:
        unsure = ensemble.segment(images_hu.numpy(), uncertainty=True, seed=seed).uncertainty
        assert unsure is not None
        return unsure.astype(np.float32)

    return of_segmenter


def write_uncertainty(model: Path, store: Store, case: str, out: Path, device: torch.device, *, seed: int = 0) -> Path:
    """Write the uncertainty of a scan as `CASE_uncertainty.nii.gz` on its own grid; NaN where nothing was stored.

    Of a pre-training it is the teacher's U, of a fine-tuning the entropy of its labels over dropout passes.
    Raises ValueError for a pre-training without a pixel head.
    """
    maps = uncertainty_of(model, store.grid, device, seed=seed)(store.read_case(case).image_hu)
    path = out / f"{case}_uncertainty.nii.gz"
    write_map(path, store.paste_back_map(case, maps), store.affine(case))
    return path
