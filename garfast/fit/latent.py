"""The appearance of a fitted face: style, code and noise, kept so that it can be rendered again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from garfast.errors import ParametersFileError
from garfast.io.atomic import atomic_path
from garfast.landmarks.alignment import Alignment

if TYPE_CHECKING:
    from garfast.networks.generator import Generator

FILE_NAME = "latent.safetensors"
FRAMES, LATENTS = "params", "latents"
"""Where a film's folder has its frames' parameters and latents; files of one number belong together."""
_KIND = "garfast-latent"


@dataclass(frozen=True, eq=False)
class Latent:
    """What the renderer needs beside geometry to draw a face again. Tensors are on the CPU, float32.

    Attributes:
        w: [1, num_styles, style_dim].
        z: [1, z_dim] the code that the styles come from, or started from; None where they come from none.
        noise: one map [1, 1, r, r] per convolution, coarse to fine.
        alignment: from the photograph's pixels to those of the renderer's picture.
        renderer: `fingerprint` of the renderer that it belongs to.
        info: more, such as whether the refinement was kept.
    """

    w: Tensor
    z: Tensor | None
    noise: list[Tensor]
    alignment: Alignment
    renderer: str
    info: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(generator: Generator) -> str:
    """A short name of a generator's weights, the same for the same weights in half and in single precision."""
    digest = hashlib.sha256()
    for tensor in (generator.constant, generator.mapping.mean_w):
        digest.update(tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_latent(path: str | os.PathLike[str], latent: Latent) -> None:
    """Write a `.safetensors` file, whole or not at all. Noise is stored as float16.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save_file

    tensors = {"w": latent.w, "alignment": latent.alignment.matrix.double()}
    if latent.z is not None:
        tensors["z"] = latent.z
    tensors |= {f"noise.{layer:02d}": noise.half() for layer, noise in enumerate(latent.noise)}
    header = {"format": _KIND, "size": latent.alignment.size, "renderer": latent.renderer, "info": dict(latent.info)}
    with atomic_path(path) as temporary:
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(stored, str(temporary), metadata={"garfast": json.dumps(header, sort_keys=True)})


def load_latent(path: str | os.PathLike[str]) -> Latent:
    """Read the file, or the one in a folder that ``garfast fit`` wrote.

    Raises:
        ParametersFileError: it is missing, truncated or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    if not path.is_file():
        raise ParametersFileError(
            f"there is no {path}: fit the photograph with a renderer's weights (`garfast fit --stages full`)"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["garfast"])
            if header["format"] != _KIND:
                raise KeyError("format")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        noise = [tensors[name].float() for name in sorted(tensors) if name.startswith("noise.")]
        alignment = Alignment(tensors["alignment"].float(), int(header["size"]))
        if tensors["w"].dim() != 3 or alignment.matrix.shape != (1, 2, 3):
            raise ValueError("shape")
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("NaN")
        return Latent(
            tensors["w"], tensors.get("z"), noise, alignment, str(header["renderer"]), dict(header.get("info", {}))
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ParametersFileError(f"{path} is truncated or no latent of a fit: fit the photograph again") from error
