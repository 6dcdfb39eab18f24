"""Pixel-global self-supervised pre-training for CT segmentation (Zhang & Zhang), with its relatives and its statistics.

The functions below are the commands of the `pixelglobal` program, with the same words and defaults. Each one is
imported when it is first used, so that `import pixelglobal` loads neither PyTorch nor Ray.

>>> import pixelglobal as pg
>>> "finetune" in dir(pg)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixelglobal.version import __version__

if TYPE_CHECKING:
    from pixelglobal.api import (
        Model,
        Prediction,
        compare,
        evaluate,
        export,
        finetune,
        inspect,
        load_model,
        predict,
        prepare,
        pretrain,
        score,
        suggest,
    )

__all__ = [
    "Model",
    "Prediction",
    "__version__",
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


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pixelglobal import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
