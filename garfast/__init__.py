"""garfast: from one photograph to a 3D face by inverting a generative adversarial renderer."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("garfast")
except PackageNotFoundError:  # a source tree that is on the path but not installed
    __version__ = "0.0.0+source"

# `garfast.fit` is a package that can be called (see its docstring); naming it imports it.
_CALLABLE_PACKAGES = ("fit",)

# Public names and the modules that define them; imported on first use so that `import garfast` stays light.
_LAZY = {
    "FitResult": "garfast.fit.result",
    "MorphableModel": "garfast.morphable",
    "load_model": "garfast.morphable",
}

__all__ = ["__version__", *_CALLABLE_PACKAGES, *_LAZY]

if TYPE_CHECKING:
    from garfast.fit.pipeline import fit as fit
    from garfast.fit.result import FitResult as FitResult
    from garfast.morphable import MorphableModel as MorphableModel
    from garfast.morphable import load_model as load_model


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_PACKAGES:
        return importlib.import_module(f"garfast.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'garfast' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_CALLABLE_PACKAGES, *_LAZY})
