"""garfast: from one photograph to a 3D face by inverting a generative adversarial renderer."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("garfast")
except PackageNotFoundError:  # a source tree that is on the path but not installed
    __version__ = "0.0.0+source"

# Public names and the modules that define them; imported on first use so that `import garfast` stays light.
_LAZY = {
    "MorphableModel": "garfast.morphable",
    "load_model": "garfast.morphable",
}

__all__ = ["__version__", *_LAZY]

if TYPE_CHECKING:
    from garfast.morphable import MorphableModel as MorphableModel
    from garfast.morphable import load_model as load_model


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'garfast' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
