"""Named sets of values: whole configs for the paper, a laptop and a test. Those of a method are in its file."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Every number of the paper, with the readings of its equations under which it trains (docs/method.md). It does not
    # mention clipping gradients.
    "paper": {"pretrain": {"gradient_clip": 0}},
    # The same with Eqs. (4) to (6) as printed, to show what then happens: the pixel head collapses.
    "paper_literal": {"pretrain": {"gradient_clip": 0}},
    # A study in an hour or two on a laptop's CPU; what differs from the paper without saving time is measured in
    # docs/method.md.
    "small": {
        "prepare": {"image_size": 96, "in_plane_spacing_mm": 4.0},
        "views": {"crop_size": 64},
        "network": {"encoder": "resnet18", "decoder_widths": [128, 64, 32, 32, 32]},
        "pretrain": {
            "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4, "batch_size": 16, "epochs": 10,
            "steps_per_epoch": 80, "warmup_epochs": 1, "flips": False, "precision": "fp32",
        },
        # Fine-tuning takes half of the steps of 0.1.0, which had not left "all background" after 250 (docs/LOG.md,
        # 2026-11-28).
        "finetune": {
            "learning_rate": 3e-3, "epochs": 15, "steps_per_epoch": 80, "patience_epochs": 8, "precision": "fp32",
        },
    },
    # Seconds: for tests, CI and the demo.
    "smoke": {
        "prepare": {"image_size": 64},
        "views": {"crop_size": 32},
        "network": {"encoder": "resnet10t", "decoder_widths": [48, 32, 24, 16, 16]},
        "pretrain": {
            "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4, "batch_size": 8, "epochs": 2,
            "steps_per_epoch": 20, "warmup_epochs": 0.5, "flips": False, "precision": "fp32",
        },
        "finetune": {
            "learning_rate": 3e-3, "epochs": 4, "steps_per_epoch": 30, "patience_epochs": 4, "precision": "fp32",
        },
    },
}  # fmt: skip
