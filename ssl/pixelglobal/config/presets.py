"""Named sets of values: the rows of the paper's ablation, and whole configs for a paper, a laptop and a test."""

from __future__ import annotations

from typing import Any

# The paper's ablation (Figure 4), each one value away from its neighbour. `full` keeps the stabiliser of the config.
VARIANTS: dict[str, dict[str, Any]] = {
    "go": {"pixel_matching": False, "stabilizer": "off", "uncertainty_weighting": False},
    "gp": {"pixel_matching": True, "stabilizer": "off", "uncertainty_weighting": False},
    "gpc": {"pixel_matching": True, "uncertainty_weighting": False},
    "full": {"pixel_matching": True, "uncertainty_weighting": True},
}


PRESETS: dict[str, dict[str, Any]] = {
    # Every number of the paper, Eqs. (5) and (6) as printed.
    "paper": {
        "pretrain": {"stabilizer": "abs_pixel", "detach_partner": False, "pixel_reduction": "sum", "gradient_clip": 0},
    },
    # A study in an hour or two on a laptop's CPU; what differs from the paper without saving time is measured in
    # docs/method.md.
    "small": {
        "prepare": {"image_size": 96, "in_plane_spacing_mm": 4.0},
        "views": {"crop_size": 64},
        "network": {"encoder": "resnet18", "decoder_widths": [128, 64, 32, 32, 32]},
        "pretrain": {
            "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4, "ema_base": 0.99, "batch_size": 16,
            "epochs": 10, "steps_per_epoch": 80, "warmup_epochs": 1, "mc_passes": 8, "global_outputs": 256,
            "pixels_per_image": 1024, "flips": False, "precision": "fp32",
        },
        "gl": {"hidden": 256}, "pgl": {"hidden": 512, "outputs": 128}, "byol": {"hidden": 512, "outputs": 128},
        "simclr": {"hidden": 256},
        "finetune": {
            "learning_rate": 3e-3, "epochs": 30, "steps_per_epoch": 80, "patience_epochs": 10, "precision": "fp32",
        },
    },
    # Seconds: for tests, CI and the demo.
    "smoke": {
        "prepare": {"image_size": 64},
        "views": {"crop_size": 32},
        "network": {"encoder": "resnet10t", "decoder_widths": [48, 32, 24, 16, 16]},
        "pretrain": {
            "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4, "ema_base": 0.99, "batch_size": 8,
            "epochs": 2, "steps_per_epoch": 20, "warmup_epochs": 0.5, "mc_passes": 4, "global_outputs": 64,
            "pixel_outputs": 32, "head_hidden": 64, "head_bottleneck": 32,
            "pixel_head_hidden": 64, "pixel_head_bottleneck": 32, "pixels_per_image": 256, "flips": False,
            "precision": "fp32",
        },
        "gl": {"hidden": 64, "outputs": 32}, "pgl": {"hidden": 64, "outputs": 32, "stride": 8},
        "byol": {"hidden": 64, "outputs": 32}, "simclr": {"hidden": 64, "outputs": 32},
        "finetune": {
            "learning_rate": 3e-3, "epochs": 6, "steps_per_epoch": 30, "patience_epochs": 6, "precision": "fp32",
        },
    },
}  # fmt: skip
