"""The stages of a fit that need the renderer: inversion and refinement, for several faces at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from garfast.errors import GarfastError
from garfast.fit.inversion import align_photo, aligned_state, invert, target_of, unaligned
from garfast.fit.latent import fingerprint
from garfast.fit.refine import refine
from garfast.fit.refine_config import RefineConfig
from garfast.fit.refine_judge import judge
from garfast.fit.refine_problem import Problem, Variables, check_renderer
from garfast.fit.refine_state import (
    RefineOutcome,
    RefineState,
    RefineTarget,
    plain,
    stack_states,
    stack_targets,
    where_geometry,
)
from garfast.fit.stages import FitState, Stage, known
from garfast.landmarks.alignment import Alignment
from garfast.morphable import Camera

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer


@dataclass
class AlignedFace:
    """One face as the renderer sees it. Batches of 1 on the model's device.

    Attributes:
        alignment: from photo pixels to aligned pixels.
        target: what the photograph says.
        state: the face as it stands, with style and noise.
        first_render: [3, S, S] G's picture after the inversion; last_render: after the refinement; about -1..1.
        normals: [3, S, S] of the mesh as it stands.
        renderer: its fingerprint.
        refinement: why the refinement was kept or not; None where there was none.
    """

    alignment: Alignment
    target: RefineTarget
    state: RefineState
    first_render: Tensor
    last_render: Tensor
    normals: Tensor
    renderer: str
    refinement: dict[str, Any] | None = None


def inversion_stage(renderer: Renderer, *, at_once: int | None = None) -> Stage:
    """Align the photograph, estimate its normals, and find z and noise with the inverting network V.

    Args:
        renderer: networks, on the faces' device.
        at_once: photographs that go through the networks together; None: all that come together.

    Raises:
        WeightsFileError: the renderer cannot be fitted.
    """
    size = renderer.generator.config.size
    check_renderer(renderer, size)
    name = fingerprint(renderer.generator)

    def run(states: Sequence[FitState]) -> list[dict[str, Any]]:
        number = at_once or len(states)
        for first in range(0, len(states), number):
            with memory_for(min(number, len(states))):
                some(states[first : first + number])
        return [{} for _ in states]

    def some(states: Sequence[FitState]) -> None:
        faces, pictures, targets = [], [], []
        for state in states:
            found = np.asarray(state.detection.landmarks)
            landmarks = torch.as_tensor(found, dtype=torch.float32, device=state.model.device)[None]
            image, alignment = align_photo(state.image, landmarks, size)
            camera = cast("Camera", known(state.camera, "camera"))
            shape, exp, pose = known(state.shape, "shape"), known(state.exp, "exp"), known(state.pose, "pose")
            faces.append((alignment, aligned_state(alignment, shape, exp, pose, camera)))
            pictures.append(image)
            error = None if state.landmark_noise is None else state.landmark_noise * alignment.scale
            targets.append((alignment.apply(landmarks), _weights(state), state.contour_vertices, error))
        images = torch.cat(pictures)
        w, z, noise = invert(renderer, images)
        estimates = target_of(renderer, images, *(_cat(values) for values in zip(*targets, strict=True)))
        for row, (state, (alignment, start)) in enumerate(zip(states, faces, strict=True)):
            one = slice(row, row + 1)
            start = replace(start, w=w[one], z=None if z is None else z[one], noise=[n[one] for n in noise])
            target = estimates.rows(torch.tensor([row], device=images.device))
            render, normals = _draw(renderer, state, target, start)
            state.aligned = AlignedFace(alignment, target, start, render, render, normals, name)

    return Stage("inversion", batched=run)


def refinement_stage(
    renderer: Renderer,
    config: RefineConfig,
    *,
    capture: bool | None = None,
    shared_shape: bool = False,
    at_once: int | None = None,
) -> Stage:
    """Equation 10; shape, expression, pose and camera change only where the judgement is that they should.

    Args:
        renderer: networks, on the faces' device.
        config: settings.
        capture: see `garfast.fit.refine.refine`.
        shared_shape: one identity for all faces that come together; it is kept for all of them or for none.
        at_once: see `garfast.fit.refine.refine`.
    """

    def run(states: Sequence[FitState]) -> list[dict[str, Any]]:
        model = states[0].model
        faces = [known(state.aligned, "aligned") for state in states]
        start = stack_states([face.state for face in faces])
        target = stack_targets([face.target for face in faces])
        with memory_for(min(at_once or len(states), len(states))):
            outcome = refine(
                model, renderer, target, start, config, shared_shape=shared_shape, at_once=at_once, capture=capture
            )
            verdict = judge(
                model, renderer, target, start, outcome.state, config, diverged=outcome.diverged, at_once=at_once
            )
        verdict = verdict.all_or_none() if shared_shape else verdict
        final = where_geometry(verdict.kept, outcome.state, start)
        losses = []
        for row, (state, face) in enumerate(zip(states, faces, strict=True)):
            alone = final.rows(torch.tensor([row], device=model.device))
            kept = bool(verdict.kept[row])
            if bool(outcome.diverged[row]):
                alone = face.state
            if kept:
                state.shape, state.exp = alone.shape, alone.exp
                height, width = state.image.shape[:2]
                state.pose, state.camera = unaligned(alone, face.alignment, (height, width))
            face.state, face.refinement = alone, verdict.row(row)
            face.last_render, face.normals = _draw(renderer, state, face.target, alone)
            losses.append({"kept": kept, **stage_losses(outcome, row)})
        return losses

    return Stage("refinement", batched=run)


def stage_losses(outcome: RefineOutcome, row: int) -> dict[str, Any]:
    """What each stage of a refinement did with one of its faces, as plain values."""
    return {
        stage.name: {
            "steps": int(stage.steps[row]),
            "seconds": round(stage.seconds / len(stage.steps), 4),
            "first": {name: plain(value[row], 6) for name, value in stage.first.items()},
            "last": {name: plain(value[row], 6) for name, value in stage.last.items()},
        }
        for stage in outcome.stages
    }


@contextmanager
def memory_for(faces: int) -> Iterator[None]:
    """Says what to do where memory runs out over a batch of faces.

    Raises:
        GarfastError: it did.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        if faces > 1:
            what = f"there is not enough memory to fit {faces} faces at once: try --batch {faces // 2}"
        else:
            what = "there is not enough memory to fit a face: try --device cpu, or --stages landmarks"
        raise GarfastError(what) from error


@torch.no_grad()
def _draw(renderer: Renderer, state: FitState, target: RefineTarget, start: RefineState) -> tuple[Tensor, Tensor]:
    """G's picture of a face, and the normal map that it draws, both [3, S, S]."""
    problem = Problem(state.model, renderer, target, start, RefineConfig())
    variables = Variables.of(start, "w")
    camera, vertices = problem.face(variables)
    _, maps = problem.raster(vertices, camera, True)
    return problem.render(variables, maps)[0], maps[-1][0]


def _weights(state: FitState) -> Tensor:
    """[1, 68] how far each landmark is trusted."""
    if state.landmark_weights is not None:
        return state.landmark_weights
    scores = np.asarray(state.detection.landmarks_score)
    return torch.as_tensor(scores, dtype=torch.float32, device=state.model.device)[None]


def _cat(values: Sequence[Tensor | None]) -> Any:
    present = [value for value in values if value is not None]
    return torch.cat(present) if len(present) == len(values) else None
