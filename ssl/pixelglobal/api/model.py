"""What training returns: a model in its folder, which predicts, is evaluated and is exported."""

from __future__ import annotations

import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pixelglobal.api.options import AnyPath, ExportTarget, Progress, Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from pixelglobal.data.store import Store
    from pixelglobal.evaluation.ensemble import Ensemble
    from pixelglobal.exports.certificate import Certificate


class Prediction(NamedTuple):
    """What a model makes of a scan, in the order of axes that its file has.

    labels: uint8, 0 for background. uncertainty: float32 in [0, 1], the entropy over dropout passes; NaN where the
    slices of the model do not reach.
    """

    labels: np.ndarray
    uncertainty: np.ndarray

    def figure(self) -> Figure:
        """The slice with the most labelled voxels, and its uncertainty, side by side."""
        import numpy as np
        from matplotlib.figure import Figure

        pictures = (self.labels, self.uncertainty)
        if self.labels.ndim == 3:
            axis = int(np.argmin(self.labels.shape))  # slices are along the shortest axis
            best = int((self.labels > 0).sum(tuple(i for i in range(3) if i != axis)).argmax())
            pictures = tuple(np.take(array, best, axis).T[::-1] for array in pictures)
        figure = Figure(figsize=(8, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.imshow(pictures[0], cmap="tab20", interpolation="nearest")
        left.set_title("labels")
        shown = right.imshow(pictures[1], cmap="magma", vmin=0, vmax=1)
        right.set_title("uncertainty")
        figure.colorbar(shown, ax=right)
        for axes in (left, right):
            axes.set_axis_off()
        return figure


class Model(os.PathLike[str]):
    """A model that `pretrain` or `finetune` has written, or that lies in a folder.

    folder: where `model.json` and `model.safetensors` are; a `Model` can be given wherever such a folder can.
    Raises ValueError if the folder, or its folder `model`, holds none.
    """

    def __init__(self, folder: AnyPath) -> None:
        from pixelglobal.training.checkpoints import require_model

        self.folder = require_model(Path(folder))

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Model({str(self.folder)!r})"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What model.json holds, such as `kind`, `structures`, `citation` and `cases_seen`."""
        from pixelglobal.files import read_json_object

        return read_json_object(self.folder / "model.json")

    @cached_property
    def _ensemble(self) -> Ensemble:
        from pixelglobal.devices import default_device
        from pixelglobal.evaluation.ensemble import Ensemble

        return Ensemble([self.folder], default_device())

    def predict(self, scan: AnyPath, *, mirrors: bool = False) -> Prediction:
        """Segment a scan; labels and uncertainty have the shape of the array in its file.

        mirrors: take the mean with the mirrored scan. A scan that is unlike those of the training is warned of. Raises
        ValueError if the scan cannot be read, if the model was only pre-trained, or if a mirror would confuse left and
        right.

        Example::

            labels, uncertainty = segmenter.predict("scans/imagesTr/phantom_000.nii.gz")
        """
        import numpy as np

        from pixelglobal.data.file_grid import as_in_file
        from pixelglobal.evaluation.predict_scans import Wanted, scans_in, segment_scan

        cohort = scans_in(Path(scan))
        self._ensemble.require_fits(cohort, Path(scan))
        [case] = cohort.cases[:1]
        result = segment_scan(cohort, case, self._ensemble, Wanted(uncertainty=True, mirrors=mirrors))
        for reason in result.flags:
            warnings.warn(f"{scan}: {reason}", stacklevel=2)
        unsure = result.segmentation.uncertainty
        assert unsure is not None
        uncertainty = result.on_the_scan(unsure.astype(np.float32), np.nan)
        return Prediction(as_in_file(case.image, result.labels), as_in_file(case.image, uncertainty))

    def evaluate(
        self,
        store: Store | AnyPath,
        out: AnyPath | None = None,
        *,
        method: str = "model",
        settings: Settings = (),
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Score the held-out patients of a store, or all labelled scans of a folder; see `pixelglobal.evaluate`.

        out: a folder; None is `evaluation` beside the model's folder.

        Example::

            rows = segmenter.evaluate(store)
        """
        from pixelglobal.api.pipeline import evaluate

        return evaluate(store, self, out, method=method, settings=settings, progress=progress)

    def export(self, out: AnyPath, *, to: ExportTarget) -> Certificate:
        """Write the network for another library; see `pixelglobal.export`."""
        from pixelglobal.api.prediction import export

        return export(self, out, to=to)
