"""What was trained, used: `predict`, `load_model` and `export`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelglobal.api.options import AnyPath, ExportTarget, Progress

if TYPE_CHECKING:
    import pandas as pd

    from pixelglobal.evaluation.loaded_model import LoadedModel
    from pixelglobal.exports.certificate import Certificate


def predict(
    scans: AnyPath,
    out: AnyPath,
    *,
    model: AnyPath | Sequence[AnyPath] = (),
    study: tuple[AnyPath, str, str] | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
    mirrors: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Segment new scans, which need no labels and no store; returns the summary, which is also in `out/summary.csv`.

    scans: a file, or a folder in any layout that `prepare` reads.
    out: a folder for `CASE.nii.gz`, the labels of each scan on the grid, with the orientation and in the data type of
    its own file.
    model: what `finetune` returned, or several of them, whose probabilities are averaged.
    study: an OUT folder, a study and a method, such as ("runs", "comparison", "full"): the models of all its seeds.
    probabilities: also save `CASE_probability_STRUCTURE.nii.gz`, NaN where the slices of the model do not reach.
    uncertainty: also save `CASE_uncertainty.nii.gz`, the entropy over dropout passes in [0, 1], and, of several models,
    `CASE_disagreement.nii.gz`.
    mirrors: take the mean with the mirrored scan.
    progress: called with the number of scans that are done, in parts, and of all scans.
    The summary has a row for each scan and structure, with `volume_ml`, `n_components` and `mean_confidence`; a scan
    that cannot be read has one row with the reason in `error`. Raises ValueError if there are no scans or no models, if
    the models do not fit together, or if a mirror would confuse left and right.

    Example::

        summary = pg.predict("scans/imagesTr", "labels", model=segmenter, uncertainty=True)
        print(summary.groupby("structure")["volume_ml"].mean())
    """
    from pixelglobal.devices import default_device
    from pixelglobal.evaluation.ensemble import Ensemble
    from pixelglobal.evaluation.predict_scans import Wanted, predict_scans
    from pixelglobal.evaluation.study_models import models_of_study

    folders = [Path(model)] if isinstance(model, str | os.PathLike) else [Path(one) for one in model]
    if study is not None:
        folders += models_of_study(Path(study[0]), study[1], study[2])
    ensemble = Ensemble(folders, default_device())
    wanted = Wanted(probabilities, uncertainty, mirrors)
    return predict_scans(Path(scans), ensemble, Path(out), wanted, progress=progress)


def load_model(folder: AnyPath) -> LoadedModel:
    """A trained model as a PyTorch module that takes slices in HU: a segmenter, or a pre-trained network.

    folder: what `pretrain` or `finetune` returned. The module is on the CPU and in evaluation mode; `facts` says what
    it is and which scans it has seen. Raises ValueError if the folder holds no model.

    Example::

        images_hu = store.read_case(store.splits.test[0]).image_hu
        scores = pg.load_model(segmenter)(images_hu)  # [B, H, W] to [B, L, H, W]
    """
    from pixelglobal.evaluation.loaded_model import load_model as load

    return load(Path(folder))


def export(
    run: AnyPath,
    out: AnyPath,
    *,
    to: ExportTarget,
    scan: AnyPath | None = None,
    rows: AnyPath | None = None,
    licence: str | None = None,
) -> Certificate:
    """Write a trained network for another library, which must load it and give our outputs; else nothing is kept.

    run: what `pretrain` or `finetune` returned.
    out: the file; the model card `NAME.md` and, for programs, the weights `NAME.safetensors` are written beside it.
    to: `timm`, the encoder; `smp`, a `Unet` of segmentation-models-pytorch; `monai`, a FlexibleUNet or its ResNet;
    `nnunet`, a checkpoint for `nnUNetv2_train -pretrained_weights`; `torchscript` and `onnx`, programs that take HU.
    scan: a scan whose middle slice is compared; None takes a slice of a synthetic patient.
    rows, licence: of an evaluation and of the weights, for the model card.
    Returns what was compared, the difference, the lines that load the file, and what was left out. Raises ValueError if
    the folder holds no model, if the library cannot hold the network or is not installed, or if outputs differ.

    Example::

        certificate = pg.export(segmenter, "encoder.safetensors", to="timm")
        print("\\n".join(certificate.usage))
    """
    from pixelglobal.exports.targets import export as write

    paths = (None if path is None else Path(path) for path in (scan, rows))
    return write(Path(run), to, Path(out), scan=next(paths), rows=next(paths), licence=licence)
