"""Methods of pre-training by name; a class is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelglobal.methods.base import Method

METHODS = {
    "pixel_global": "pixelglobal.methods.pixel_global:PixelGlobal",
    "gl": "pixelglobal.methods.gl:Gl",
    "pgl": "pixelglobal.methods.pgl:Pgl",
    "byol": "pixelglobal.methods.byol:Byol",
    "simclr": "pixelglobal.methods.simclr:SimClr",
    "dino": "pixelglobal.methods.dino:Dino",
}


def method_class(name: str) -> type[Method]:
    """The class of a method of METHODS, or of `module:Class`.

    Raises ValueError when there is no such class, or when it is no `methods.method.Method`.
    """
    from pixelglobal.methods.base import Method

    module, _, attribute = METHODS.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"pretrain.method={name!r}: {error}. Give one of {', '.join(METHODS)}, or module:Class where the module "
            "can be imported (PYTHONPATH)"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"pretrain.method={name!r} is no subclass of pixelglobal.methods.method.Method")
    return found
