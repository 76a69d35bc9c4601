"""Settings of the refinement (equation 10): its stages, their losses, and when its result is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from garfast.errors import ArgumentError

GROUPS = ("shape", "exp", "pose", "camera", "latent", "noise")
"""What a stage can optimise."""
GEOMETRY = GROUPS[:4]
LATENTS = ("w", "w+", "z")


def _not_negative(owner: Any, names: list[str]) -> None:
    for name in names:
        value = getattr(owner, name)
        if not (math.isfinite(value) and value >= 0):
            raise ArgumentError(f"{name} must be a finite number that is not negative, not {value}")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; a loss of weight 0 is switched off and not computed.

    No loss depends on the picture's size.

    Attributes:
        photometric: Charbonnier distance of the render to the photograph inside the face, after a smooth correction of
            the render's colours; colours are -1..1.
        perceptual: squared distance of channel-normalised features of the perceptual network, inside the face.
        normals: Huber distance of the mesh's normals to those that the estimator sees in the photograph, inside the
            face.
        landmark: robust squared distance of the mesh's landmarks to those detected, in units of their noise, summed
            with the landmark fit's weights and divided by 68.
        prior: sum of squares of the shape and expression coefficients (standard deviations), divided by 68. With the
            same weight as ``landmark``, both are equation 12, which the landmark fit has solved.
        latent: mean square distance of w to the mean style.
        noise: multi-scale autocorrelation of the noise maps, which keeps the picture's content out of them.
    """

    photometric: float = 0.0
    perceptual: float = 0.0
    normals: float = 0.0
    landmark: float = 0.0
    prior: float = 0.0
    latent: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        _not_negative(self, [f.name for f in fields(self)])

    @property
    def renders(self) -> bool:
        """Whether a loss needs the renderer."""
        return self.photometric > 0 or self.perceptual > 0


@dataclass(frozen=True)
class LearningRates:
    """Adam's step in each group: about how far a parameter moves in one iteration.

    Attributes:
        shape: identity, standard deviations.
        exp: expression, standard deviations.
        pose: rotation, radians.
        camera: scale (relative) and offset (in sides of the aligned picture).
        latent: w or z.
        noise: noise maps, whose values have a standard deviation of 1.
    """

    shape: float = 0.03
    exp: float = 0.03
    pose: float = 0.003
    camera: float = 0.002
    latent: float = 0.02
    noise: float = 0.02

    def __post_init__(self) -> None:
        _not_negative(self, [f.name for f in fields(self)])


@dataclass(frozen=True)
class RefineStage:
    """One run of gradient descent.

    Attributes:
        name: for reports.
        steps: iterations at most.
        optimise: which of 'shape', 'exp', 'pose', 'camera', 'latent' and 'noise'; the others stay.
        weights: of the losses.
        rates: Adam's steps.
        warmup: part of the steps over which the rates rise from 0.
        decay: part of the steps, at the end, over which they fall to 0 along a cosine.
        patience: a face stops after this many iterations without progress.
        tolerance: what counts as progress: a smoothed loss smaller by this fraction.
    """

    name: str
    steps: int
    optimise: tuple[str, ...] = GROUPS
    weights: LossWeights = field(default_factory=LossWeights)
    rates: LearningRates = field(default_factory=LearningRates)
    warmup: float = 0.1
    decay: float = 0.5
    patience: int = 20
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if not self.name:
            raise ArgumentError("a stage of the refinement needs a name")
        unknown = [name for name in self.optimise if name not in GROUPS]
        if unknown or not self.optimise:
            raise ArgumentError(
                f"stage '{self.name}': optimise must name some of {', '.join(GROUPS)}, not {list(self.optimise)}"
            )
        _not_negative(self, ["steps", "tolerance"])
        if self.patience < 1:
            raise ArgumentError(f"stage '{self.name}': patience must be at least 1, not {self.patience}")
        if not (0 <= self.warmup <= 1 and 0 <= self.decay <= 1):
            raise ArgumentError(f"stage '{self.name}': warmup and decay are parts of the steps, from 0 to 1")


@dataclass(frozen=True)
class RefineConfig:
    """Everything about the refinement.

    Attributes:
        stages: run one after the other.
        latent: what stands for the appearance: 'w+' (a style for each layer), 'w' (one for all) or 'z'.
        colour_order: degree of the polynomials in x and y by which the render's colours are brought to the
            photograph's before they are compared: 0, 1 or 2; -1 compares them as they are.
        colour_ridge: how much of the colours' variance that correction needs to explain.
        colour_strength: how much of that correction is made, 0 to 1: less than all of it, so that the style still comes
            to have the photograph's colours.
        occlusion: a pixel whose residual is this many times the mean counts half (hair, hands, glasses); 0 counts all
            pixels alike.
        erode: pixels, at 128, by which the face's mask is drawn in from its outline.
        landmark_noise: the landmarks' error, in sides of the aligned picture, where the landmark fit has not estimated
            it; at five times this distance the landmark loss turns from quadratic to linear.
        normal_cutoff: distance of unit normals at which the normal loss turns from quadratic to linear.
        normal_tilt: the estimated normals are turned as a whole by the rotation that brings them nearest to the mesh's,
            by so many radians at most; 0 takes them as they are.
        normal_blur: pixels, at 128, over which both normals are averaged before the loss compares them: an estimator is
            smoother than a mesh at lids, lips and nostrils.
        holdout: part of the picture, in small squares, that no normal or photometric loss sees: on it is judged.
        max_growth: the mean landmark residual may grow by this fraction of itself...
        max_growth_nme: ...and by this fraction of the face's size on top of it.
        min_gain: the held-out disagreement of the normals must fall by this fraction.
        judged: whether the landmark fit stays where the refinement is not better; false keeps every refinement whose
            numbers are finite, for measuring what a refinement does by itself.
        warm: part of each stage's steps that a film's frame takes, as it starts from the refined frame before.
    """

    stages: tuple[RefineStage, ...] = ()
    latent: str = "w+"
    colour_order: int = 2
    colour_ridge: float = 0.01
    colour_strength: float = 0.8
    occlusion: float = 3.0
    erode: float = 3.0
    landmark_noise: float = 0.01
    normal_cutoff: float = 0.15
    normal_tilt: float = 0.25
    normal_blur: float = 2.0
    holdout: float = 0.1
    max_growth: float = 0.1
    max_growth_nme: float = 0.002
    min_gain: float = 0.02
    judged: bool = True
    warm: float = 0.4

    def __post_init__(self) -> None:
        if self.latent not in LATENTS:
            raise ArgumentError(f"latent must be one of {', '.join(LATENTS)}, not {self.latent!r}")
        if self.colour_order not in (-1, 0, 1, 2):
            raise ArgumentError(f"colour_order must be -1, 0, 1 or 2, not {self.colour_order}")
        _not_negative(self, ["colour_ridge", "occlusion", "erode", "normal_tilt", "normal_blur"])
        _not_negative(self, ["max_growth", "max_growth_nme", "min_gain", "warm"])
        if not 0 <= self.colour_strength <= 1:
            raise ArgumentError(f"colour_strength is a part of the correction, from 0 to 1, not {self.colour_strength}")
        for name in ("landmark_noise", "normal_cutoff"):
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.holdout <= 0.5:
            raise ArgumentError(f"holdout is a part of the picture, from 0 to 0.5, not {self.holdout}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ArgumentError(f"each stage of the refinement needs its own name, not {names}")


_GEOMETRY = LossWeights(normals=10.0, landmark=1.0, prior=1.0)
_APPEARANCE = LossWeights(photometric=1.0, perceptual=1.0, latent=0.2, noise=0.3)
_JOINT = LossWeights(photometric=1.0, perceptual=1.0, normals=10.0, landmark=1.0, prior=1.0, latent=0.2, noise=0.3)
_FINE = LearningRates(shape=0.015, exp=0.015, pose=0.0015, camera=0.001, latent=0.02, noise=0.02)


def _stages(geometry: int, appearance: int, joint: int) -> tuple[RefineStage, ...]:
    return (
        RefineStage("geometry", geometry, GEOMETRY, _GEOMETRY),
        RefineStage("appearance", appearance, ("latent", "noise"), _APPEARANCE),
        RefineStage("joint", joint, GROUPS, _JOINT, _FINE),
    )


# Equation 10 as the paper has it: colours, features and noise through G, nothing of ours beside them.
_PAPER = RefineStage("joint", 120, GROUPS, LossWeights(photometric=1.0, perceptual=1.0, noise=0.3), _FINE)

PRESETS: dict[str, RefineConfig] = {
    "fast": RefineConfig(_stages(50, 10, 15)),
    "default": RefineConfig(_stages(90, 25, 45)),
    "best": RefineConfig(_stages(150, 120, 250)),
    "paper": RefineConfig((_PAPER,), latent="z", colour_order=-1, occlusion=0.0, holdout=0.0, judged=False),
}
"""Settings by name. First the mesh alone moves toward the estimator's normals and the landmarks, which needs no
renderer and is cheap; then the renderer's appearance is brought to the photograph's; then all of it moves together.
'paper' is equation 10 alone, over the code z as in the paper, kept without a judgement: it shows what the renderer and
the inverter, whose code it needs to start from, do for geometry, which is not what fits a photograph best."""


def preset(name: str) -> RefineConfig:
    """The settings of a name.

    Raises:
        ArgumentError: there is no such preset.
    """
    if name not in PRESETS:
        raise ArgumentError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def scaled(config: RefineConfig, factor: float) -> RefineConfig:
    """The same settings with ``factor`` times as many steps in each stage, rounded up."""
    return replace(config, stages=tuple(replace(s, steps=math.ceil(s.steps * factor)) for s in config.stages))
