"""The built-in face: a morphable face model written down as formulas, with nothing to download.

The modules of this package are its source: `head` (the loft), `sculpture` with `eyes`, `nose`, `mouth` (the features),
`layout` (the mesh), `parts` and `assembly` (eyeballs, teeth, mirroring), `identity` and `expressions` (the modes),
`landmarks` and `surface_maps` (annotations), `build` (the file). `python -m garfast.morphable.builtin` rebuilds
`builtin_face.npz`, which `load_builtin` reads.
"""

from __future__ import annotations

from pathlib import Path

from garfast.morphable.model import MorphableModel

BUILTIN_PATH = Path(__file__).with_name("builtin_face.npz")


def load_builtin() -> MorphableModel:
    """The built-in face.

    Raises:
        ModelFileError: the file that ships with the package is missing or damaged.
    """
    return MorphableModel.load(BUILTIN_PATH)
