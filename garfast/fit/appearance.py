"""What a result keeps of the renderer's part of a fit: small pictures, the latent, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from garfast.fit.colour_match import match_colours
from garfast.fit.latent import Latent
from garfast.io.images import picture_array
from garfast.landmarks.alignment import Alignment

if TYPE_CHECKING:
    from garfast.fit.refinement_stages import AlignedFace


@dataclass(frozen=True, eq=False)
class Appearance:
    """The renderer's part of a fit. Pictures are uint8 [S,S,3], in the aligned view.

    Attributes:
        photo: the aligned photograph.
        inverted: G's picture after the inversion, of the landmark fit's geometry.
        render: G's picture in the end; after a refinement with its colours brought to the photograph's.
        normals_estimated: the estimator's normals of the photograph as colours; None without an estimator.
        normals_fitted: those of the fitted mesh.
        latent: style, code, noise and alignment.
        refinement: 'kept' (bool), 'reason' (a sentence's end), 'before' and 'after' (measures); None where the
            geometry was not refined.
    """

    photo: np.ndarray
    inverted: np.ndarray
    render: np.ndarray
    normals_estimated: np.ndarray | None
    normals_fitted: np.ndarray
    latent: Latent
    refinement: dict[str, Any] | None

    @property
    def warning(self) -> str | None:
        """What a user should be told about the refinement, a sentence; None where all went well."""
        if self.refinement is None or self.refinement["kept"]:
            return None
        return f"The refinement was not kept, the mesh is the landmark fit's: {self.refinement['reason']}."


def appearance_of(face: AlignedFace) -> Appearance:
    """What to keep of a face, on the CPU."""
    state, target = face.state, face.target
    assert state.w is not None
    assert state.noise is not None
    alignment = Alignment(_cpu(face.alignment.matrix), face.alignment.size)
    info = {"kept": bool(face.refinement and face.refinement["kept"])}
    noise = [_cpu(noise) for noise in state.noise]
    latent = Latent(_cpu(state.w), None if state.z is None else _cpu(state.z), noise, alignment, face.renderer, info)
    seen = (face.normals.square().sum(0, keepdim=True) > 0).float()
    cover = torch.ones_like(seen) if target.cover is None else (target.cover[0] > 0.5).float()
    estimated = None if target.normals is None else picture_array(target.normals[0] * cover + (cover - 1))
    render = face.last_render
    if face.refinement is not None:
        # The descent compares colours only after this correction, so G's own say little.
        render = match_colours(render[None], target.image[:1], (seen * cover)[None])[0]
    return Appearance(
        photo=picture_array(target.image[0]),
        inverted=picture_array(face.first_render),
        render=picture_array(render),
        normals_estimated=estimated,
        normals_fitted=picture_array(face.normals * seen + (seen - 1)),
        latent=latent,
        refinement=face.refinement,
    )


def _cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32)
