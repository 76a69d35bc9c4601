"""The renderer with the networks around it, as one folder of weight files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from garfast.errors import GarfastError, WeightsFileError
from garfast.networks.generator import Generator, GeneratorConfig
from garfast.networks.identity import IdentityConfig, IdentityNet
from garfast.networks.inverter import Inverter
from garfast.networks.normal_estimator import NormalEstimator, NormalEstimatorConfig
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.weights import fill_network, load_weights, save_weights

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the weights that come with the package."""


@dataclass(eq=False)
class Renderer:
    """G and the networks that train and invert it, ready to use: in evaluation mode, without gradients of weights.

    Attributes:
        generator: G, averaged weights.
        inverter: V, or None.
        normals: N, or None.
        identity: F of equation 8, or None.
        perceptual: the perceptual distance of equation 10, or None.
        notes: how the generator came to be.
    """

    generator: Generator
    inverter: Inverter | None = None
    normals: NormalEstimator | None = None
    identity: IdentityNet | None = None
    perceptual: PerceptualNet | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Side of the aligned pictures, pixels."""
        return self.generator.config.size

    def networks(self) -> dict[str, nn.Module]:
        """The networks that are there, by name."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "notes"}
        return {name: network for name, network in named.items() if network is not None}

    def comparing_network(self) -> PerceptualNet | IdentityNet | None:
        """Whose features pictures are compared by: the perceptual network, else the identity network, else None."""
        return self.perceptual if self.perceptual is not None else self.identity

    def picture_features(self, images: Tensor) -> Tensor:
        """Features [B, D] of pictures [B, 3, S, S] in -1..1 for Frechet distances; not comparable with InceptionV3's.

        The coarsest feature map of `comparing_network`, for each size of the picture it looks at, averaged over the
        picture.

        Raises:
            WeightsFileError: there is neither network.
        """
        network = self.comparing_network()
        if network is None:
            raise WeightsFileError("these renderer weights have no perceptual and no identity network")
        stages = len(network.channel_weights if isinstance(network, PerceptualNet) else network.config.widths)
        maps = network.features(images)[stages - 1 :: stages]
        return torch.cat([level.flatten(2).mean(2) for level in maps], 1)

    def to(self, device: torch.device | str) -> Renderer:
        """Move every network; returns self."""
        for network in self.networks().values():
            network.to(device)
        return self


_KINDS: dict[str, Callable[[Mapping[str, Any], str], nn.Module]] = {
    "generator": lambda config, impl: Generator(GeneratorConfig(**config), impl=impl),
    "inverter": lambda config, impl: Inverter(GeneratorConfig(**config), impl=impl),
    "normals": lambda config, _: NormalEstimator(NormalEstimatorConfig.from_dict(config)),
    "identity": lambda config, _: IdentityNet(IdentityConfig.from_dict(config)),
    "perceptual": lambda config, _: PerceptualNet(PerceptualConfig.from_dict(config)),
}


def load_network(path: str | os.PathLike[str], kind: str, *, impl: str = "auto") -> nn.Module:
    """One network from its weight file.

    Args:
        path: the file.
        kind: 'generator', 'inverter', 'normals', 'identity' or 'perceptual'.
        impl: backend of the operators.

    Raises:
        WeightsFileError: the file is missing, damaged or for something else.
    """
    config, state = load_weights(path, kind=kind)
    try:
        network = _KINDS[kind](config, impl)
    except (TypeError, KeyError, ValueError, GarfastError) as error:
        raise WeightsFileError(f"{path} describes no network of kind {kind!r} that this version knows") from error
    fill_network(network, state, path)
    return network.requires_grad_(False)


def load_renderer(
    folder: str | os.PathLike[str] | None = None, *, device: torch.device | str = "cpu", impl: str = "auto"
) -> Renderer:
    """Load the renderer.

    Args:
        folder: as :func:`save_renderer` or ``garfast train gar`` writes it; None for the weights that come with the
            package.
        device: where to.
        impl: backend of the operators.

    Raises:
        WeightsFileError: there is no generator, a file is damaged, or the files do not belong together.
    """
    folder = SHIPPED if folder is None else Path(folder)
    if not (folder / "generator.safetensors").is_file():
        raise WeightsFileError(
            f"there are no renderer weights in {folder}: give a folder that `garfast train gar` wrote, "
            "with a generator.safetensors in it"
        )
    networks = {
        kind: load_network(folder / f"{kind}.safetensors", kind, impl=impl)
        for kind in _KINDS
        if (folder / f"{kind}.safetensors").is_file()
    }
    renderer = Renderer(**networks, notes=_notes(folder / "generator.safetensors"))  # type: ignore[arg-type]
    inverter = renderer.inverter
    if inverter is not None and replace(inverter.config, mapping_lr_multiplier=1.0) != replace(
        renderer.generator.config, mapping_lr_multiplier=1.0
    ):
        raise WeightsFileError(f"the inverter in {folder} was made for another generator: train it for this one")
    return renderer.to(device)


def save_renderer(folder: str | os.PathLike[str], renderer: Renderer) -> dict[str, str]:
    """Write every network of the project's own that is there, in half precision; returns their checksums by name.

    One that takes its place, such as a recogniser of the user's, stays with its own file.

    Raises:
        OutputError: a file cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    sums = {}
    for kind, network in renderer.networks().items():
        config: Any = getattr(network, "config", None)
        if config is None:
            continue
        values = dict(config) if isinstance(config, Mapping) else asdict(config)
        notes = renderer.notes if kind == "generator" else {}
        sums[kind] = save_weights(Path(folder) / f"{kind}.safetensors", network, kind=kind, config=values, notes=notes)
    return sums


def _notes(path: Path) -> dict[str, Any]:
    import json

    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return dict(json.loads((file.metadata() or {})["garfast"])["notes"])
