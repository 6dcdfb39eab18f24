"""The library in ten functions: the commands of the `pixelglobal` program, with the same words and defaults.

A function imports what it needs when it is called: `score` and `compare` load neither PyTorch nor Ray. The examples in
the docstrings are run one after the other by tests/test_api.py.
"""

from pixelglobal.api.inspection import inspect
from pixelglobal.api.model import Model, Prediction
from pixelglobal.api.pipeline import evaluate, finetune, prepare, pretrain
from pixelglobal.api.prediction import export, load_model, predict
from pixelglobal.api.scoring import compare, score
from pixelglobal.api.suggestion import suggest

__all__ = [
    "Model",
    "Prediction",
    "compare",
    "evaluate",
    "export",
    "finetune",
    "inspect",
    "load_model",
    "predict",
    "prepare",
    "pretrain",
    "score",
    "suggest",
]
