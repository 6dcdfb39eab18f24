"""The library in seven functions: the commands of the `pixelglobal` program, with the same words and defaults.

A function imports what it needs when it is called: `score` and `compare` load neither PyTorch nor Ray. The examples in
the docstrings are run one after the other by tests/test_api.py.
"""

from pixelglobal.api.pipeline import evaluate, finetune, load_model, prepare, pretrain
from pixelglobal.api.scoring import compare, score

__all__ = ["compare", "evaluate", "finetune", "load_model", "prepare", "pretrain", "score"]
