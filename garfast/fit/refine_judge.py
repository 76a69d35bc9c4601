"""Whether a refinement is kept: judged on pixels that no loss has seen, and on the landmarks.

A face is kept refined where all of this holds:

1. nothing diverged, and all its numbers are finite;
2. the mean distance of its landmarks to those detected is at most ``(1 + max_growth) before + max_growth_nme size``,
   where ``size`` is the face's (the square root of the area of the box around the detected landmarks);
3. on the held-out pixels, either the mesh's normals lie nearer (mean angle, by ``min_gain`` at least) to the
   estimator's; or, without an estimator, the render of the refined mesh lies nearer to the photograph than that of the
   mesh before, both with the refined style and noise. Where there is neither, the landmarks alone decide.

The held-out pixels are `RefineConfig.holdout` of the picture; where that is 0, all pixels count. `RefineConfig.judged`
false leaves only the first condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from garfast.fit import refine_losses as terms
from garfast.fit.refine_config import RefineConfig
from garfast.fit.refine_problem import Problem, Variables
from garfast.fit.refine_state import RefineState, RefineTarget, plain
from garfast.morphable import MorphableModel

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

_DIVERGED = "the descent diverged"


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is measured before and after, per face, and what follows.

    Attributes:
        kept: [B] bool.
        before, after: by name, [B]: 'landmarks' (mean residual over the face's size), 'normals' (mean angle to the
            estimator's on held-out pixels, degrees; absent without an estimator), 'photometric' (mean distance of
            colours on held-out pixels; absent without a renderer).
        reasons: B sentences' ends; why a face is kept or not.
    """

    kept: Tensor
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def all_or_none(self) -> Judgement:
        """The judgement of faces that share a shape, which cannot change for some of them only."""
        if bool(self.kept.all()):
            return self
        others = "another picture of the same person did not gain"
        reasons = tuple(
            others if kept else reason for kept, reason in zip(self.kept.tolist(), self.reasons, strict=True)
        )
        return replace(self, kept=torch.zeros_like(self.kept), reasons=reasons)

    def row(self, face: int) -> dict[str, object]:
        """One face's judgement as plain values."""
        return {
            "kept": bool(self.kept[face]),
            "reason": self.reasons[face],
            "before": {name: plain(value[face], 5) for name, value in self.before.items()},
            "after": {name: plain(value[face], 5) for name, value in self.after.items()},
        }


def judge(
    model: MorphableModel,
    renderer: Renderer | None,
    target: RefineTarget,
    before: RefineState,
    after: RefineState,
    config: RefineConfig,
    *,
    diverged: Tensor | None = None,
    at_once: int | None = None,
    impl: str = "auto",
) -> Judgement:
    """Compare B faces before and after a refinement; see above for the rule. ``at_once`` faces are measured together,
    which bounds the memory."""
    parts = []
    for rows in torch.arange(after.batch, device=model.device).split(at_once or after.batch):
        some = (target.rows(rows), before.rows(rows), after.rows(rows))
        parts.append(measures(model, renderer, *some, config, impl=impl))
    first, last = joined([part[0] for part in parts]), joined([part[1] for part in parts])
    finite = torch.cat([part[2] for part in parts])
    return verdict(first, last, finite if diverged is None else finite & ~diverged, config)


@torch.no_grad()
def measures(
    model: MorphableModel,
    renderer: Renderer | None,
    target: RefineTarget,
    before: RefineState,
    after: RefineState,
    config: RefineConfig,
    *,
    impl: str = "auto",
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """What is measured of B faces before and after, as in `Judgement`, and [B] whether all their numbers are finite."""
    # The refined appearance on both meshes: what is compared is the geometry.
    old = replace(before, w=after.w, z=after.z, noise=after.noise)
    config = replace(config, latent="w")  # the styles are what they are, wherever they came from
    first, last = (_measures(Problem(model, renderer, target, state, config, impl), state) for state in (old, after))
    finite = torch.ones(after.batch, dtype=torch.bool, device=model.device)
    for tensor in (after.exp, after.shape.expand(after.batch, -1), after.pose.rotation, after.camera.ndc()):
        finite &= tensor.isfinite().all(1)
    for value in last.values():
        finite &= value.isfinite()
    return first, last, finite


def joined(measured: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Measures of several batches as those of one."""
    return {name: torch.cat([values[name] for values in measured]) for name in measured[0]}


def verdict(first: dict[str, Tensor], last: dict[str, Tensor], finite: Tensor, config: RefineConfig) -> Judgement:
    """The rule above, for measures [B] before and after."""
    if not config.judged:
        reasons = tuple("the settings ask for no judgement" if good else _DIVERGED for good in finite.tolist())
        return Judgement(finite, first, last, reasons)
    allowed = (1 + config.max_growth) * first["landmarks"] + config.max_growth_nme
    landmarks = last["landmarks"] <= allowed
    decider = next((name for name in ("normals", "photometric") if name in last), None)
    nearer = torch.ones_like(finite)
    if decider is not None:
        # Where nothing is held out, or no face is there, both are 0, and nothing speaks for the refinement.
        nearer = (last[decider] <= (1 - config.min_gain) * first[decider]) & (first[decider] > 0)
    reasons = tuple(
        _reason(
            bool(finite[face]),
            bool(landmarks[face]),
            bool(nearer[face]),
            decider,
            {name: (float(first[name][face]), float(last[name][face])) for name in last},
            float(allowed[face]),
            config.min_gain,
        )
        for face in range(len(finite))
    )
    return Judgement(finite & landmarks & nearer, first, last, reasons)


def _measures(problem: Problem, state: RefineState) -> dict[str, Tensor]:
    target, config = problem.target, problem.config
    variables = Variables.of(state, "w")
    camera, vertices = problem.face(variables)
    points = problem.landmarks(vertices, camera)
    weights = problem.landmark_weights
    known = torch.where(weights[..., None] > 0, target.landmarks, points)
    distance = terms.masked_mean((points - known).norm(dim=-1), weights)
    span = _span(target.landmarks)
    result = {"landmarks": distance / span}
    view, maps = problem.raster(vertices, camera, problem.renderer is not None)
    seen = 1 - problem.train_part if config.holdout > 0 else problem.train_part
    face = problem.face_weights(view)
    if target.normals is not None:
        estimate = problem.estimate(view.normals, face)
        result["normals"] = terms.mean_angle(view.normals, estimate, face * seen)
    if problem.renderer is not None:
        matched, trusted = problem.matched(problem.render(variables, maps), face)
        result["photometric"] = terms.charbonnier(matched, target.image, trusted * seen)
    return result


def _span(landmarks: Tensor) -> Tensor:
    """[B] square root of the area of the box around landmarks [B, 68, 2]."""
    missing = landmarks.isnan()
    low = torch.where(missing, torch.inf, landmarks).amin(1)
    high = torch.where(missing, -torch.inf, landmarks).amax(1)
    return (high - low).prod(1).clamp_min(1e-12).sqrt()


def _reason(
    finite: bool,
    landmarks: bool,
    nearer: bool,
    decider: str | None,
    measures: dict[str, tuple[float, float]],
    allowed: float,
    min_gain: float,
) -> str:
    if not finite:
        return _DIVERGED
    if not landmarks:
        before, after = measures["landmarks"]
        return (
            f"the mean landmark residual grew from {100 * before:.2f} % to {100 * after:.2f} % of the face "
            f"({100 * allowed:.2f} % are allowed)"
        )
    if decider is None:
        return "the landmarks are met as before, and there is nothing else to judge by"
    before, after = measures[decider]
    if decider == "normals":
        change = f"from {before:.2f}° to {after:.2f}°"
        what = "the mean angle between the mesh's normals and the estimated ones, on held-out pixels, "
    else:
        change = f"from {before:.4f} to {after:.4f}"
        what = "the distance of the render's colours to the photograph's, on held-out pixels, "
    if nearer:
        return f"{what}fell {change}"
    if before == 0:
        return "no held-out pixel shows the face, so there is nothing to judge by"
    if after < before:
        return f"{what}fell only {change} ({100 * min_gain:g} % are asked for)"
    return f"{what}did not fall: {change}"
