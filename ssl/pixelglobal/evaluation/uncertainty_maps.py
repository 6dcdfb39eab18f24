"""Where the teacher is unsure: uncertainty maps of whole slices (the paper's Figure 2)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.data.volumes import write_map
from pixelglobal.devices import place
from pixelglobal.methods.pixel_global import PixelGlobal, PixelGlobalSettings
from pixelglobal.networks.branch import MatchedPixels, teacher_uncertainty
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import read_model
from pixelglobal.views.intensity import HuScale, normalize


@torch.no_grad()
def uncertainty_maps(folder: Path, images_hu: Tensor, device: torch.device, *, seed: int = 0) -> Tensor:
    """The teacher's U in [0, 1] of every pixel, float32 [Z, H, W], of stored slices int16 [Z, H, W] (Figure 2).

    folder: a pre-trained model whose config has pixel matching. Batch norms use their running averages, so a map does
    not depend on the slices beside it.
    """
    tensors, facts = read_model(folder)
    if "center_pixel" not in facts or not any(key.startswith("teacher.pixel_head.") for key in tensors):
        raise ValueError(f"{folder} was pre-trained without the pixels of our method: it has no uncertainty of pixels")
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
    height, width = images_hu.shape[1:]
    draws = generator(seed, "uncertainty maps")
    every_pixel = torch.arange(height * width, device=device)
    image_M = torch.zeros_like(every_pixel)
    maps = []
    for image in images_hu:
        x = normalize(image.to(device).float()[None, None], HuScale(**facts["scale"]))
        features = teacher.backbone.encode(x)
        y_MC = teacher.decode_pixels(features, image_M, every_pixel, None)
        pixels = MatchedPixels(features, y_MC, image_M, every_pixel, (height * width,))
        u = teacher_uncertainty(teacher, center, pixels, settings.passes, draws)
        maps.append(u.view(height, width).float().cpu())
    return torch.stack(maps)


def write_uncertainty(model: Path, store: Store, case: str, out: Path, device: torch.device, *, seed: int = 0) -> Path:
    """Write the teacher's U of a scan as `CASE_uncertainty.nii.gz` on its own grid; NaN where nothing was stored."""
    maps = uncertainty_maps(model, store.read_case(case).image_hu, device, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{case}_uncertainty.nii.gz"
    write_map(path, store.paste_back_map(case, maps.numpy()), store.affine(case))
    return path
