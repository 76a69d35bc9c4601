"""What pictures are compared by: InceptionV3 where the user has it, else the project's own networks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import EvaluationError, WeightsFileError

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

OWN = "not comparable with InceptionV3 FID"


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A function from pictures to features.

    Attributes:
        label: which network, with a checksum; statistics carry it.
        note: what a reader must know of numbers made with it.
        run: pictures float32 [B, 3, H, W], 0..255, to features [B, D].
        size: side that pictures are brought to first; None for any.
    """

    label: str
    note: str
    run: Callable[[Tensor], Tensor]
    size: int | None = None

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Features [B, D] float32 of pictures uint8 [B, 3, H, W].

        Raises:
            EvaluationError: the network cannot take these pictures, or gives no [B, D].
        """
        images = pictures.float()
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            ).clamp(0, 255)
        try:
            out = self.run(images)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise EvaluationError(
                f"the network '{self.label}' cannot take pictures {list(images.shape)}: {reason}"
            ) from error
        if not isinstance(out, Tensor) or out.dim() < 2 or len(out) != len(images):
            raise EvaluationError(f"the network '{self.label}' gives no features [B, D]")
        return out.flatten(1).float()


def inception_features(path: str | os.PathLike[str], device: str = "cpu") -> FeatureExtractor:
    """InceptionV3 from a TorchScript file; a file cannot run Python code, only TorchScript operators.

    Two kinds are known: the one that StyleGAN's metrics use (it takes pictures of any size in 0..255 and has an option
    ``return_features``), whose numbers can be compared with published ones; and torchvision's network with its last
    layer replaced by an identity (299 x 299, normalised as ImageNet), whose numbers cannot, as its weights are others.

    Raises:
        WeightsFileError: the file is missing or no TorchScript.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsFileError(f"there is no InceptionV3 file {file}: check the path, or leave the option out")
    try:
        network = torch.jit.load(str(file), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsFileError(
            f"{file} is no TorchScript file: save InceptionV3 with torch.jit.script(network).save(path)"
        ) from error
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    arguments = {argument.name for argument in network.forward.schema.arguments}
    if "return_features" in arguments:
        return FeatureExtractor(
            f"inception {digest}",
            "InceptionV3 FID",
            lambda images: network(images.to(device), return_features=True).cpu(),
        )

    def torchvision_like(images: Tensor) -> Tensor:
        mean = images.new_tensor([0.485, 0.456, 0.406])[:, None, None]
        std = images.new_tensor([0.229, 0.224, 0.225])[:, None, None]
        out: Any = network(((images / 255 - mean) / std).to(device))
        return (out[0] if isinstance(out, tuple) else out).cpu()

    return FeatureExtractor(
        f"torchvision inception {digest}",
        "torchvision's InceptionV3: not comparable with published FID, which uses other weights",
        torchvision_like,
        299,
    )


def own_features(renderer: Renderer) -> FeatureExtractor:
    """Features of the renderer's perceptual network, or of its identity network where it has no perceptual one.

    The coarsest feature map for each size of the picture that the network looks at is averaged over the picture.

    Raises:
        EvaluationError: the renderer has neither network.
    """
    network = renderer.comparing_network()
    if network is None:
        raise EvaluationError(
            "these renderer weights have no perceptual and no identity network to compare pictures by: "
            "give an InceptionV3 file, or weights with a perceptual.safetensors"
        )
    name = "perceptual" if network is renderer.perceptual else "identity"
    device = next(network.parameters()).device

    def run(images: Tensor) -> Tensor:
        return renderer.picture_features((images / 127.5 - 1).to(device)).cpu()

    return FeatureExtractor(f"garfast {name} {state_digest(network)} {renderer.size}px", OWN, run, renderer.size)


def state_digest(network: torch.nn.Module) -> str:
    """The first 12 digits of a SHA-256 over a network's values."""
    checksum = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        checksum.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()[:12]
