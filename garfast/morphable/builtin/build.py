"""Builds the built-in face from its formulas."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from garfast.io.atomic import atomic_path

from . import anatomy
from .assembly import Assembly, assemble
from .expressions import expression_basis
from .identity import identity_basis
from .landmarks import contour, landmarks
from .layout import build_layout
from .surface_maps import regions, texture

SOURCE = (
    "The built-in face of garfast, sculpted with formulas; proportions after Z. Zhuang and B. Bradtmiller, "
    "Head-and-Face Anthropometric Survey of U.S. Respirator Users, J. Occup. Environ. Hyg. 2(11), 567-576, 2005."
)


def build_arrays(report: Callable[[str], None] | None = None) -> dict[str, np.ndarray]:
    """Every array of the built-in model's file, in the file's precision (about half a minute)."""
    say = report or (lambda _: None)
    say("laying out the mesh")
    return arrays_of(assemble(build_layout()), say)


def arrays_of(a: Assembly, say: Callable[[str], None]) -> dict[str, np.ndarray]:
    """The file's arrays for an assembled mean face."""
    say("deriving the modes")
    shape_basis, shape_names = identity_basis(a)
    exp_basis, exp_names, exp_bounds = expression_basis(a)
    say("placing landmarks, outlines, texture and regions")
    landmark_triangles, landmark_weights = landmarks(a)
    jaw = landmark_triangles[:17, 0]
    uv, uv_triangles = texture(a)
    masks = regions(a)
    named = anatomy.points(a)
    # Steps of 1/512 mm in half precision: finer than anything seen, and the file packs well.
    return {
        "format_version": np.array(1, np.int32),
        "name": np.array("builtin"),
        "source": np.array(SOURCE),
        "licence": np.array("MIT"),
        "units": np.array("mm"),
        "mean": (np.round(a.vertices * 1024) / 1024).astype(np.float32),
        "triangles": a.triangles.astype(np.int32),
        "shape_basis": (np.round(shape_basis * 512) / 512).astype(np.float16),
        "exp_basis": (np.round(exp_basis * 512) / 512).astype(np.float16),
        "exp_bounds": exp_bounds.astype(np.float32),
        "landmark_triangles": landmark_triangles.astype(np.int32),
        "landmark_weights": landmark_weights.astype(np.float32),
        "contour": contour(a, jaw).astype(np.int32),
        "uv": (np.round(uv * 65536) / 65536).astype(np.float32),
        "uv_triangles": uv_triangles.astype(np.int32),
        "shape_names": np.array(shape_names),
        "exp_names": np.array(exp_names),
        "mirror": a.mirror.astype(np.int32),
        "anatomy_names": np.array(tuple(named)),
        "anatomy_vertices": np.array(tuple(named.values()), np.int32),
        "region_names": np.array(tuple(masks)),
        "regions": (np.round(np.stack(list(masks.values())) * 255) / 255).astype(np.float16),
    }


def write(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    """Write the model file, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
