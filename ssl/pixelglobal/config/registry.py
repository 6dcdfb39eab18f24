"""Methods of pre-training by name. A method is a plug-in: its class is imported when it is first asked for.

A method of the library has a line in `METHODS`; a method of your own is named `module:Class`, where the module can be
imported. Both are the same file: see docs/how-to/add-a-method.md. This is the one place that reaches up from the
settings to the methods, by name and never by an import.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

METHODS = {
    "pixel_global": "pixelglobal.methods.pixel_global:PixelGlobal",
    "gl": "pixelglobal.methods.gl:Gl",
    "pgl": "pixelglobal.methods.pgl:Pgl",
    "byol": "pixelglobal.methods.byol:Byol",
    "simclr": "pixelglobal.methods.simclr:SimClr",
    "dino": "pixelglobal.methods.dino:Dino",
    "moco": "pixelglobal.methods.moco:Moco",
    "densecl": "pixelglobal.methods.densecl:DenseCl",
    "pixpro": "pixelglobal.methods.pixpro:PixPro",
    "rotation": "pixelglobal.methods.rotation:Rotation",
    "jigsaw": "pixelglobal.methods.jigsaw:Jigsaw",
    "context_restoration": "pixelglobal.methods.context_restoration:ContextRestoration",
    "restore": "pixelglobal.methods.restore:Restore",
    "restore_full": "pixelglobal.methods.restore_full:RestoreFull",
}


def method_class(method: str) -> type[Any]:
    """The class of a method of METHODS, or of `module:Class`.

    Raises ValueError when there is no such class, when it is no `methods.base.Method`, or when the name of its section
    of settings belongs to another method.
    """
    if method not in METHODS and ":" not in method:
        raise ValueError(
            f"pretrain.method={method!r} is unknown: choose one of {', '.join(METHODS)}, or give module:Class for a "
            "method of your own"
        )
    module, _, attribute = METHODS.get(method, method).partition(":")
    try:
        named: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"pretrain.method={method!r}: {error}. Give one of {', '.join(METHODS)}, or module:Class where the module "
            "can be imported (PYTHONPATH)"
        ) from error
    if not (isinstance(named, type) and issubclass(named, import_module("pixelglobal.methods.base").Method)):
        raise ValueError(f"pretrain.method={method!r} is no subclass of pixelglobal.methods.base.Method")
    declared: type[Any] = named
    if declared.name != method and (declared.name in METHODS or not declared.name.isidentifier()):
        raise ValueError(
            f"pretrain.method={method!r}: its class attribute `name` is {declared.name!r}; expected a word of its own, "
            "which also names its section of settings"
        )
    return declared


@cache
def variants() -> dict[str, tuple[str, Any]]:
    """What studies compare, by the name in their tables: the method it belongs to, and its `methods.base.Variant`."""
    return {name: (method, variant) for method in METHODS for name, variant in method_class(method).variants.items()}
