"""Equation 10: gradient descent on shape, expression, pose, style and noise of many faces together, with G fixed.

    L_f = |I - G(n(shape, exp, pose), w, noise)| + perceptual + regularisers

`refine` takes and gives `RefineState`s: B faces in aligned pictures. Which parameters move, under which losses, how far
and how long, is said by the stages of a `RefineConfig`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.fit.refine_config import RefineConfig, RefineStage
from garfast.fit.refine_descent import Descent, captured
from garfast.fit.refine_losses import NUM_LANDMARKS, renormalise
from garfast.fit.refine_problem import Problem, Variables, frozen, noise_maps, state_of
from garfast.fit.refine_state import RefineOutcome, RefineState, RefineTarget, StageOutcome
from garfast.morphable import MorphableModel
from garfast.ops._dispatch import resolve

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

# Iterations between two looks, from the host, at whether any face still moves.
_LOOK = 10


def refine(
    model: MorphableModel,
    renderer: Renderer | None,
    target: RefineTarget,
    start: RefineState,
    config: RefineConfig,
    *,
    shared_shape: bool = False,
    at_once: int | None = None,
    capture: bool | None = None,
    impl: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> RefineOutcome:
    """Refine B faces together.

    Args:
        model: the face model, on the device to compute on.
        renderer: networks on the same device. Losses that need one which is missing are left out; None leaves the
            landmarks and the prior, and the normals where ``target`` has them.
        target: what the photographs say; `garfast.fit.inversion.target_of` makes one.
        start: where to start, from a landmark fit and the inverter, or from another refinement (warm).
        config: settings; its stages run one after the other.
        shared_shape: one identity for all B faces, the mean of the start's where that has several. Its prior counts
            once, not B times.
        at_once: faces whose losses and gradients are computed together, which bounds the memory; None: all. The
            gradients are those of all faces whatever the number.
        capture: whether to run each stage as a CUDA graph; None: on a GPU, if that can be done.
        impl: implementation of the rasteriser.
        progress: called with the stage's name, the iteration and the number of iterations.

    Returns:
        Faces, in the order of ``start``; a face that diverged stays where it was last.

    Raises:
        ArgumentError: the batches differ in size, or the start lacks what the renderer needs.
        WeightsFileError: the renderer cannot be fitted (see `check_renderer`).
    """
    _check(renderer, target, start, shared_shape)
    if at_once is not None and at_once < 1:
        raise ArgumentError(f"refine: at least one face is computed at once, not {at_once}")
    if shared_shape and len(start.shape) > 1:
        start = _with_one_shape(start)
    outcomes = []
    diverged = torch.zeros(start.batch, dtype=torch.bool, device=model.device)
    with frozen(renderer):
        problems = []
        for first in range(0, start.batch, at_once or max(start.batch, 1)):
            last = min(first + (at_once or start.batch), start.batch)
            rows = torch.arange(first, last, device=model.device)
            part = (target, start) if last - first == start.batch else (target.rows(rows), start.rows(rows))
            problems.append((first, last, Problem(model, renderer, *part, config, impl)))
        variables = Variables.of(start, config.latent)
        for stage in config.stages:
            outcome, failed = _run(problems, start, variables, stage, capture, progress)
            diverged |= failed
            outcomes.append(outcome)
        return RefineOutcome(state_of(start, variables, config, renderer), tuple(outcomes), diverged)


def _run(
    problems: Sequence[tuple[int, int, Problem]],
    start: RefineState,
    variables: Variables,
    stage: RefineStage,
    capture: bool | None,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[StageOutcome, Tensor]:
    """One stage of the faces that the problems' first and last numbers say; changes the variables in place."""
    began = time.perf_counter()
    faces, model = start.batch, problems[0][2].model
    appearance = problems[0][2].renderer is not None
    groups = [name for name in stage.optimise if appearance or name not in ("latent", "noise")]
    leaves = {name: getattr(variables, name) for name in groups}
    shared = len(variables.shape) < faces

    def losses(first: int, last: int, problem: Problem) -> dict[str, Tensor]:
        own = variables if last - first == faces else variables.rows(first, last)
        values = problem.losses(own, stage.weights)
        if shared and "prior" in values:
            values["prior"] = _shared_prior(own, faces)
        return values

    parts: list[Callable[[], dict[str, Tensor]]] = [partial(losses, *problem) for problem in problems]

    @torch.no_grad()
    def bounds() -> None:
        if "exp" in leaves:
            lower, upper = model.exp_bounds.unbind(1)
            variables.exp.copy_(torch.minimum(torch.maximum(variables.exp, lower), upper))
        if "noise" in leaves:
            maps = [renormalise(noise).flatten(1) for noise in noise_maps(start, variables)]
            variables.noise.copy_(torch.cat(maps, 1))

    descent = Descent(leaves, parts, stage, faces, bounds) if leaves else None
    if descent is None or stage.steps == 0:
        none = torch.zeros(faces, dtype=torch.int64, device=variables.exp.device)
        return StageOutcome(stage.name, none, time.perf_counter() - began), none.bool()
    if not _computes(problems[0][2], stage):
        return StageOutcome(stage.name, descent.steps, time.perf_counter() - began), descent.diverged
    first: dict[str, Tensor] = {}
    step: Callable[[], None] = descent.iterate
    for iteration in range(stage.steps):
        if iteration == 1 and (capture if capture is not None else can_capture(problems[0][2])):
            try:
                step = captured(descent)
            except RuntimeError:  # something reads on the host, or memory is short: slower without, but the same
                if capture:
                    raise
        step()
        if iteration == 0:
            first = {name: value.clone() for name, value in descent.values.items()}
        if progress is not None:
            progress(stage.name, iteration + 1, stage.steps)
        if iteration % _LOOK == _LOOK - 1 and not bool(descent.active.any()):
            break
    if variables.exp.is_cuda:
        torch.cuda.synchronize(variables.exp.device)
    outcome = StageOutcome(stage.name, descent.steps, time.perf_counter() - began, first, dict(descent.values))
    return outcome, descent.diverged


def _computes(problem: Problem, stage: RefineStage) -> bool:
    """Whether any of the stage's losses can be had: not where they need networks that are missing."""
    weights = stage.weights
    normals = weights.normals > 0 and problem.target.normals is not None
    photometric = weights.photometric > 0 and problem.renderer is not None
    perceptual = weights.perceptual > 0 and problem.features is not None
    return weights.landmark > 0 or normals or photometric or perceptual


def can_capture(problem: Problem) -> bool:
    """Whether iterations run on a GPU and read nothing on the host, as the rasteriser's reference does."""
    on_gpu = problem.model.device.type == "cuda"
    return on_gpu and resolve("rasterize_normals", problem.impl, problem.model.device) != "reference"


def _shared_prior(variables: Variables, faces: int) -> Tensor:
    """The prior of a shape that so many faces share: each bears its part of it."""
    shape, exp = variables.shape, variables.exp
    return (shape.square().sum() / faces + exp.square().sum(1)) / NUM_LANDMARKS


def _with_one_shape(start: RefineState) -> RefineState:
    return replace(start, shape=start.shape.mean(0, keepdim=True))


def _check(renderer: Renderer | None, target: RefineTarget, start: RefineState, shared_shape: bool) -> None:
    batch = start.batch
    if len(target.image) != batch or len(start.shape) not in (batch, 1):
        raise ArgumentError(
            f"refine: the target has {len(target.image)} faces, the start has {batch} expressions and "
            f"{len(start.shape)} shapes: they must agree"
        )
    if len(start.shape) != batch and not shared_shape:
        raise ArgumentError("refine: one shape for several faces needs shared_shape=True")
    if start.camera.image_size != tuple(target.image.shape[-2:]):
        raise ArgumentError(
            f"refine: the camera is of pictures {start.camera.image_size}, not {tuple(target.image.shape[-2:])}"
        )
    if renderer is not None and (start.w is None or start.noise is None):
        raise ArgumentError("refine: a start for a renderer needs w and noise, see garfast.fit.inversion.invert")
