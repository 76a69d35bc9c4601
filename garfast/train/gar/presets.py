"""Settings of the renderer's training, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from garfast.errors import ArgumentError
from garfast.networks.discriminator import DiscriminatorConfig
from garfast.networks.generator import GeneratorConfig
from garfast.train.gar.geometry import GeometryPrior


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; a weight of 0 switches a loss off and saves its work.

    Attributes:
        adversarial, normal, landmark, identity: equation 9.
        r1: gamma of R1; half of it multiplies the squared gradient.
        path_length: of the path-length penalty over styles and normal maps.
        reconstruction: of the difference between a photograph with known geometry and G's picture of that geometry
            with V's code for the photograph. Not in the paper: only synthetic photographs have exact geometry, and a
            small renderer learns from them many times faster than from the adversary alone.
        perceptual: of the same difference as the perceptual network sees it.
        spread: keeps V's codes of photographs uniform on the sphere from which z is drawn.
        latent: V has to find the code of G's own pictures again (first part of equation 11), and G to show it in them.
        redrawn: of the adversarial loss of photographs that G has drawn again.
    """

    adversarial: float = 1.0
    normal: float = 2.0
    landmark: float = 2.0
    identity: float = 1.0
    r1: float = 10.0
    path_length: float = 2.0
    reconstruction: float = 0.0
    perceptual: float = 0.0
    spread: float = 0.0
    latent: float = 0.0
    redrawn: float = 0.0

    @property
    def inverts(self) -> bool:
        """Whether V is trained along."""
        return self.pairs or self.latent > 0

    @property
    def pairs(self) -> bool:
        """Whether photographs with known geometry are drawn again."""
        return max(self.reconstruction, self.perceptual, self.spread, self.redrawn) > 0


@dataclass(frozen=True)
class GarTraining:
    """Settings of the renderer's training.

    Attributes:
        generator, discriminator: the networks' shapes; the sizes must agree.
        projected: whether D looks at the perceptual network's features instead (see :class:`ProjectedDiscriminator`).
        weights: of the losses.
        prior: distribution of the random geometry.
        steps: optimiser steps in all.
        batch: pictures a step and process, a multiple of 4 times ``accumulate``: each person is drawn with two
            geometries and two codes, which gives every picture a partner for equation 7 and one for equation 8.
        accumulate: parts that a batch is worked through in.
        paired: photographs a step for the reconstruction losses.
        exchanged: these losses give G the photograph's pose and camera, but the shape and expression of another one in
            the batch, or the mean face's. So G learns to draw faces and not to follow their geometry: for ablations of
            the normal consistency, which the reconstruction teaches otherwise.
        rate: learning rate of Adam, G's and D's.
        adversary_rate: D's where it is another one.
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        warmup: first steps, in which only the reconstruction losses act and D rests.
        r1_every, path_length_every: steps between two lazy regularisations.
        mixing: share of steps with two codes (style mixing).
        half_life: of the averaged weights, pictures.
        ada_target: of the adaptive augmentation; None switches it off.
        ada_images: pictures over which its strength may go from 0 to 1.
        normals_size: side of the pictures that N looks at, at most the generator's.
        landmark_size: side of the crops that the landmark network looks at.
        mirror: mirror half of the photographs that D sees.
        bfloat16: run the networks in bfloat16 where the device has it.
        seed: of the first weights and everything random.

    Raises:
        ArgumentError: sizes disagree, or the batch cannot be divided as above.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    projected: bool = False
    weights: LossWeights = field(default_factory=LossWeights)
    prior: GeometryPrior = field(default_factory=GeometryPrior)
    steps: int = 800_000
    batch: int = 16
    accumulate: int = 1
    paired: int = 0
    exchanged: bool = False
    rate: float = 0.002
    adversary_rate: float | None = None
    decay: float = 0.0
    warmup: int = 0
    r1_every: int = 16
    path_length_every: int = 4
    mixing: float = 0.9
    half_life: float = 10_000.0
    ada_target: float | None = 0.6
    ada_images: int = 500_000
    normals_size: int = 128
    landmark_size: int = 96
    mirror: bool = True
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.generator.size != self.discriminator.size:
            raise ArgumentError(
                f"GarTraining: G makes pictures of {self.generator.size} pixels and D looks at "
                f"{self.discriminator.size}: give both the same size"
            )
        if self.batch % (4 * self.accumulate) or self.batch < 1:
            raise ArgumentError(
                f"GarTraining: batch must be a multiple of 4 * accumulate = {4 * self.accumulate}, not {self.batch}"
            )
        if self.paired % self.accumulate or self.paired < 0:
            raise ArgumentError(
                f"GarTraining: paired must be a multiple of accumulate = {self.accumulate}, not {self.paired}"
            )
        if self.paired == 0 and (self.warmup > 0 or (self.weights.pairs and self.weights.latent == 0)):
            raise ArgumentError(
                "GarTraining: the reconstruction losses, which the warm-up consists of, need paired > 0 photographs a "
                "step"
            )
        if self.warmup > 0 and not self.weights.pairs:
            raise ArgumentError("GarTraining: no loss is left for the warm-up: set warmup=0")
        if self.weights.spread > 0 and self.paired == self.accumulate:
            raise ArgumentError("GarTraining: weights.spread compares codes and needs paired >= 2 * accumulate")


_SYNTH = GarTraining(
    generator=GeneratorConfig(
        size=128, z_dim=128, style_dim=128, mapping_layers=4, channel_base=2048, channel_max=128, nim_channels=16
    ),
    discriminator=DiscriminatorConfig(size=128, channel_base=2048, channel_max=128),
    weights=LossWeights(reconstruction=5.0, perceptual=2.0, spread=0.2, latent=0.5, r1=2.0, path_length=1.0),
    prior=GeometryPrior(yaw=0.45, pitch=0.15, roll=0.03, perspective=0.75),
    steps=6000,
    paired=8,
    decay=0.3,
    warmup=1500,
    path_length_every=8,
    mixing=0.3,
    normals_size=64,
    landmark_size=64,
    half_life=4000.0,
)

PRESETS: dict[str, GarTraining] = {
    "tiny-64": replace(
        _SYNTH,
        generator=replace(_SYNTH.generator, size=64),
        discriminator=replace(_SYNTH.discriminator, size=64),
    ),
    "synth-128": _SYNTH,
    "ffhq-256": GarTraining(
        generator=GeneratorConfig(size=256, channel_base=16384),
        discriminator=DiscriminatorConfig(size=256, channel_base=16384),
        batch=16,
    ),
    "ffhq-1024": GarTraining(
        generator=GeneratorConfig(size=1024, channel_base=32768),
        discriminator=DiscriminatorConfig(size=1024, channel_base=32768),
        batch=4,
        normals_size=256,
    ),
}
"""``tiny-64`` for tests and ablations, ``synth-128`` for the weights that come with the package (both on synthetic
photographs), ``ffhq-256`` and ``ffhq-1024`` with the paper's weights for real ones. Batches are of one process."""


def preset_settings(name: str) -> GarTraining:
    """A preset by name.

    Raises:
        ArgumentError: there is none of that name.
    """
    if name not in PRESETS:
        raise ArgumentError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def override(settings: GarTraining, changes: dict[str, Any], texts: tuple[str, ...] = ()) -> GarTraining:
    """Settings with some values replaced.

    Args:
        settings: the base.
        changes: values by field name.
        texts: ``NAME=VALUE`` with dotted names, such as ``weights.normal=0`` or ``generator.nim=concat``; the value is
            read as the type of the one it replaces.

    Raises:
        ArgumentError: a name is unknown or a value cannot be read.
    """
    # All at once, since some only make sense together.
    tree: dict[str, Any] = dict(changes)
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise ArgumentError(f"a setting is changed with NAME=VALUE, not {text!r}")
        _plan(settings, name.split("."), value, name, tree)
    return _rebuilt(settings, tree)


def _plan(settings: Any, path: list[str], value: str, whole: str, tree: dict[str, Any]) -> None:
    """Note in ``tree``, which has the form of the settings, that one of them gets a value."""
    names = {item.name for item in fields(settings)}
    if path[0] not in names:
        raise ArgumentError(f"there is no setting {whole!r}: {path[0]!r} is none of {', '.join(sorted(names))}")
    old = getattr(settings, path[0])
    if len(path) == 1:
        tree[path[0]] = _read(old, value, whole)
        return
    if not is_dataclass(old):
        raise ArgumentError(f"the setting {whole!r} does not exist: {path[0]!r} has no parts")
    _plan(old, path[1:], value, whole, tree.setdefault(path[0], {}))


def _rebuilt(settings: Any, tree: dict[str, Any]) -> Any:
    new = {
        name: _rebuilt(getattr(settings, name), value) if isinstance(value, dict) else value
        for name, value in tree.items()
    }
    return replace(settings, **new)


def _read(old: Any, value: str, name: str) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
        if isinstance(old, int):
            return int(value)
        if isinstance(old, str):
            return value
        if isinstance(old, tuple):
            parts = [float(part) for part in value.split(",")]
            if len(parts) != len(old):
                raise ValueError
            return tuple(parts)
        if value.lower() == "none":
            return None
        return float(value)
    except (ValueError, KeyError) as error:
        raise ArgumentError(f"the setting {name} cannot be {value!r}: it is {old!r} now") from error
