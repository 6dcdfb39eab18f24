"""The rows of the paper's ablation: values of the settings of `pixel_global`."""

from __future__ import annotations

from pixelglobal.methods.base import Variant

# The paper's ablation (Figure 4), each one value away from its neighbour; gpc and full keep the config's stabiliser.
ABLATION = {
    "go": Variant("GO", "#56b4e9", {"pixel_matching": False, "stabilizer": "off", "uncertainty_weighting": False}),
    "gp": Variant("GP", "#d55e00", {"pixel_matching": True, "stabilizer": "off", "uncertainty_weighting": False}),
    "gpc": Variant("GPC", "#009e73", {"pixel_matching": True, "uncertainty_weighting": False}),
    "full": Variant("Pixel-global (ours)", "#1a80bb", {"pixel_matching": True, "uncertainty_weighting": True}),
}
# The same with a local gradient as strong as the global one: what then differs is not the weight of the local loss.
MATCHED_ABLATION = {
    f"{name}_matched": Variant(f"{plain.label}, matched", color, {**plain.settings, "local_gradient": "matched"})
    for name, plain, color in (
        ("gp", ABLATION["gp"], "#8c3a00"), ("gpc", ABLATION["gpc"], "#00573f"), ("full", ABLATION["full"], "#0b3c5d"),
    )
}  # fmt: skip
