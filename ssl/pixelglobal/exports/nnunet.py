"""For nnU-Net: a checkpoint for `-pretrained_weights`, and the plans file of the network that it is for."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelglobal.exports.certificate import Certificate, ExportError, Parts, difference_of, library
from pixelglobal.files import write_file, write_json

PLANS = "pixelglobalPlans"
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


@torch.no_grad()
def export(parts: Parts, images_hu: Tensor, path: Path) -> Certificate:
    """Write a checkpoint and a plans file; nnU-Net builds the network, loads the checkpoint and normalises a slice.

    Encoder and decoder are loaded; nnU-Net never loads segmentation layers. Raises ExportError for an encoder alone.
    """
    if parts.decoder is None:
        raise ExportError("this model is an encoder without a decoder; export it with --to timm")
    if not parts.is_ct:
        raise ExportError("nnU-Net would normalise pictures otherwise than this model; export it with --to smp")
    plans_handler = library("nnunetv2.utilities.plans_handling.plans_handler", "see docs/how-to/export.md for nnU-Net")
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans_path = write_json(path.with_name(f"{PLANS}.json"), plans_of(parts, images_hu.shape[-1]))
    weights = {f"encoder.{key}": value.clone() for key, value in parts.encoder.state_dict().items()}
    weights |= {f"decoder.{key}": value.clone() for key, value in parts.decoder.state_dict().items()}
    write_file(path, lambda scratch: torch.save({"network_weights": weights}, scratch))

    manager = plans_handler.PlansManager(str(plans_path))
    configuration = manager.get_configuration("2d")
    network = get_network_from_plans(
        configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import, 1, max(2, parts.classes), deep_supervision=True,
    ).eval()  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        load_pretrained_weights(network, str(path))
    x, left_out = parts.input_of(images_hu), ["the segmentation layers, which nnU-Net always trains anew"]
    if parts.model.scale.scope == "dataset":
        properties = manager.foreground_intensity_properties_per_channel["0"]
        theirs = CTNormalization(use_mask_for_norm=False, intensityproperties=properties).run(images_hu.float().numpy())
        difference_of([torch.as_tensor(theirs)[None]], [x], "nnU-Net's CTNormalization")
    else:
        left_out.append("the clip range: nnU-Net's z-score of every scan is not ours of every slice")
    pixel_features = super(type(network.decoder), network.decoder).forward(network.encoder(x))
    ours = parts.decoder(parts.encoder(x))
    difference = difference_of([pixel_features], [ours], "nnU-Net's network")
    usage = (
        f"# copy {PLANS}.json to $nnUNet_preprocessed/DATASET/ and name DATASET in its dataset_name",
        f"nnUNetv2_preprocess -d ID -plans_name {PLANS} -c 2d",
        f"nnUNetv2_train ID 2d 0 -p {PLANS} -pretrained_weights {path.name}",
    )
    compared = "normalised slice and pixel features of encoder and decoder"
    return Certificate(path, "nnU-Net", compared, difference, usage, tuple(left_out))


def plans_of(parts: Parts, side: int) -> dict[str, Any]:
    """A plans file with one 2-D configuration: our network, grid and intensities."""
    scale, grid = parts.model.scale, parts.model.facts.get("grid", {})
    mm = grid.get("in_plane_spacing_mm") or 1.0
    resampling = {name: RESAMPLING | ({"is_seg": True, "order": 1} if name == "seg" else {"order": 1 if name ==
                  "probabilities" else 3}) for name in ("data", "seg", "probabilities")}  # fmt: skip
    stages = len(parts.decoder_widths)
    configuration = {
        "data_identifier": f"{PLANS}_2d", "preprocessor_name": "DefaultPreprocessor", "batch_size": 12,
        "patch_size": [side, side], "median_image_size_in_voxels": [float(side), float(side)], "spacing": [mm, mm],
        "normalization_schemes": ["CTNormalization" if scale.scope == "dataset" else "ZScoreNormalization"],
        "use_mask_for_norm": [False], "batch_dice": True,
        **{f"resampling_fn_{name}": "resample_data_or_seg_to_shape" for name in resampling},
        **{f"resampling_fn_{name}_kwargs": arguments for name, arguments in resampling.items()},
        "architecture": {
            "network_class_name": "pixelglobal.networks.nnunet.NnUnetResUNet",
            "arch_kwargs": {
                "encoder": parts.encoder_name, "decoder_widths": list(parts.decoder_widths),
                "strides": [[1, 1], *[[2, 2]] * stages],
            },
            "_kw_requires_import": [],
        },
    }  # fmt: skip
    intensities = {
        "mean": scale.mean_hu, "std": scale.std_hu, "percentile_00_5": scale.hu_min, "percentile_99_5": scale.hu_max,
        "min": scale.hu_min, "max": scale.hu_max, "median": scale.mean_hu,
    }  # fmt: skip
    return {
        "dataset_name": "DATASET", "plans_name": PLANS, "image_reader_writer": "SimpleITKIO",
        "original_median_spacing_after_transp": [1.0, mm, mm],
        "original_median_shape_after_transp": [100, side, side],
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0": intensities},
    }  # fmt: skip
