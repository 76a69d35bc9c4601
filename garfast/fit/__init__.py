"""Fitting a morphable model to photographs.

The package is also a function: ``garfast.fit(image)`` is ``garfast.fit.pipeline.fit(image)``, and returns a
`garfast.fit.result.FitResult`. Importing it is cheap: its modules and names are imported on use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Public names and the modules that define them.
_LAZY = {
    "FitResult": "garfast.fit.result",
    "LandmarkFit": "garfast.fit.landmarks_fit",
    "LandmarkFitConfig": "garfast.fit.landmark_config",
    "fit_faces": "garfast.fit.pipeline",
    "fit_landmarks": "garfast.fit.landmarks_fit",
}

__all__ = ["FitResult", "LandmarkFit", "LandmarkFitConfig", "fit_faces", "fit_landmarks"]

if TYPE_CHECKING:
    from garfast.fit.landmark_config import LandmarkFitConfig as LandmarkFitConfig
    from garfast.fit.landmarks_fit import LandmarkFit as LandmarkFit
    from garfast.fit.landmarks_fit import fit_landmarks as fit_landmarks
    from garfast.fit.pipeline import fit_faces as fit_faces
    from garfast.fit.result import FitResult as FitResult


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'garfast.fit' has no attribute '{name}'")


class _CallablePackage(ModuleType):
    """A package that can be called, because its name is also the verb that it is about."""

    def __call__(self, image: Any, **options: Any) -> FitResult:
        """Fit one face of a photograph: see `garfast.fit.pipeline.fit`."""
        from garfast.fit.pipeline import fit

        return fit(image, **options)


# The language reference ("Customizing module attribute access") allows a module's class to be set for such purposes.
sys.modules[__name__].__class__ = _CallablePackage
