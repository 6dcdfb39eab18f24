"""Where the teacher is unsure: uncertainty maps of whole slices (the paper's Figure 2)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pixelglobal.config.schema import Config
from pixelglobal.data.store import Store
from pixelglobal.data.volumes import write_map
from pixelglobal.devices import place
from pixelglobal.methods.pixel_global import Branch, teacher_uncertainty
from pixelglobal.seeds import generator
from pixelglobal.training.checkpoints import read_model
from pixelglobal.views.intensity import HuScale, normalize


@torch.no_grad()
def uncertainty_maps(folder: Path, images_hu: Tensor, device: torch.device, *, seed: int = 0) -> Tensor:
    """The teacher's U in [0, 1] of every pixel, float32 [N, H, W], of stored slices int16 [N, H, W] (Figure 2).

    folder: a pre-trained model whose config has pixel matching. Batch norms use their running averages, so a map does
    not depend on the slices beside it.
    """
    tensors, facts = read_model(folder)
    if "center_pixel" not in facts or not any(key.startswith("teacher.pixel_head.") for key in tensors):
        raise ValueError(f"{folder} was pre-trained without the pixels of our method: it has no uncertainty of pixels")
    config = Config.model_validate({"network": facts["network"], "pretrain": facts["pretrain"]})
    teacher = Branch(config.network, config.pretrain)
    prefixes = {"encoder.": "backbone.encoder.", "decoder.": "backbone.decoder."}
    state = {}
    for key, value in tensors.items():
        if key.startswith("teacher."):
            own = key.removeprefix("teacher.")
            for old, new in prefixes.items():
                own = new + own.removeprefix(old) if own.startswith(old) else own
            state[own] = value
    teacher.load_state_dict(state)
    place(teacher, device).eval()
    center = torch.tensor(facts["center_pixel"], device=device)
    height, width = images_hu.shape[1:]
    chance = generator(seed, "uncertainty maps")
    every_pixel = torch.arange(height * width, device=device)
    maps = []
    for image in images_hu:
        x = normalize(image.to(device).float()[None, None], HuScale(**facts["scale"]))
        image_M = torch.zeros_like(every_pixel)
        features = teacher.backbone.encode(x)
        plain = teacher.decode_pixels(features, image_M, every_pixel, None)
        u = teacher_uncertainty(
            teacher,
            center,
            features,
            plain,
            image_M,
            every_pixel,
            (height * width,),
            config.network,
            config.pretrain,
            chance,
        )
        maps.append(u.view(height, width).float().cpu())
    return torch.stack(maps)


def write_uncertainty(model: Path, store: Store, case: str, out: Path, device: torch.device, *, seed: int = 0) -> Path:
    """Write the teacher's U of a scan as `CASE_uncertainty.nii.gz` on its own grid; NaN where nothing was stored."""
    maps = uncertainty_maps(model, store.read_case(case).image_hu, device, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{case}_uncertainty.nii.gz"
    write_map(path, store.paste_back_map(case, maps.numpy()), store.affine(case))
    return path
