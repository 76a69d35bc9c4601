"""The refinement of a film (equation 10): one shape, each frame from the frame before, smooth, and never worse.

1. The shape comes from the frames that the landmark fit has taken it from, refined together; only their losses'
   computation is split into batches, so that memory is bounded by those.
2. With it, the frames are refined in order. Each starts from its own landmark fit, changed as the refinement has
   changed the frame before, and from that frame's style and noise.
3. Expression, pose and camera are smoothed in time as those of the landmark fit are.
4. What came out is measured in all frames, smoothed as it is, and kept for the whole film or not at all: by the rule of
   `garfast.fit.refine_judge`, on the means over the frames.

Frames are read anew for each of these, and a batch of them at a time is held.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.fit.inversion import align_photo, aligned_state, invert, target_of, unaligned
from garfast.fit.latent import Latent, fingerprint
from garfast.fit.refine import refine
from garfast.fit.refine_config import RefineConfig, scaled
from garfast.fit.refine_judge import joined, measures, verdict
from garfast.fit.refine_problem import check_renderer
from garfast.fit.refine_state import RefineState, RefineTarget, plain, stack_states, stack_targets, where_geometry
from garfast.fit.refinement_stages import memory_for, stage_losses
from garfast.fit.result import StageRecord
from garfast.fit.sequence import FittedSequence, smoothed_motion
from garfast.fit.smoothing import penalty
from garfast.landmarks.alignment import Alignment
from garfast.morphable import Camera, MorphableModel, OrthographicCamera, Pose
from garfast.morphable.rotation import matrix_to_axis_angle

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

Progress = Callable[[str, int, int], None]
"""Told what is done, how far it is and how far it goes."""


def refine_sequence(
    model: MorphableModel,
    sequence: FittedSequence,
    frames: Callable[[], Iterable[np.ndarray]],
    renderer: Renderer,
    config: RefineConfig | None,
    *,
    batch: int = 1,
    progress: Progress | None = None,
) -> FittedSequence:
    """Refine a film that was fitted by its landmarks.

    Args:
        model: on the renderer's device.
        sequence: the landmark fit.
        frames: gives the film's frames, uint8 [H,W,3], each time anew.
        renderer: networks.
        config: settings; None only inverts: style and noise of each frame, the geometry as it is.
        batch: frames that are computed together. With one, each frame starts from the frame before; with more, all of
            a batch from the last one of the batch before.
        progress: see `Progress`.

    Returns:
        The film with latents and records; the geometry is the landmark fit's, to the last bit, where the refinement was
        not kept.

    Raises:
        ArgumentError: ``batch`` is not positive.
        WeightsFileError: the renderer cannot be fitted.
        GarfastError: there is not enough memory for so many frames at once.
    """
    if batch < 1:
        raise ArgumentError(f"a batch has at least one frame, not {batch}")
    check_renderer(renderer, renderer.size)
    clip = _Clip(model, sequence, frames, renderer, batch, progress or (lambda what, done, total: None))
    with memory_for(batch):
        return _inverted(clip) if config is None else _refined(clip, config)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some frames as the renderer sees them."""

    numbers: list[int]
    alignment: Alignment
    target: RefineTarget

    def row(self, row: int) -> Alignment:
        return Alignment(self.alignment.matrix[row : row + 1], self.alignment.size)


@dataclass(frozen=True, eq=False)
class _Clip:
    """A film, what its landmarks say, and the networks to go on with."""

    model: MorphableModel
    sequence: FittedSequence
    frames: Callable[[], Iterable[np.ndarray]]
    renderer: Renderer
    batch: int
    progress: Progress

    @property
    def seen(self) -> list[int]:
        """The frames that show the face."""
        return [int(number) for number in np.flatnonzero(~self.sequence.lost)]

    def batches(self, wanted: Sequence[int], what: str) -> Iterator[_Batch]:
        """These frames in order, some at a time; reports progress as ``what``."""
        chosen = set(wanted)
        pictures = ((n, photo) for n, photo in enumerate(self.frames()) if n in chosen)
        for done in range(0, len(chosen), self.batch):
            some = list(itertools.islice(pictures, min(self.batch, len(chosen) - done)))
            yield self._batch([number for number, _ in some], [photo for _, photo in some])
            self.progress(what, done + len(some), len(chosen))

    def _batch(self, numbers: list[int], photos: list[np.ndarray]) -> _Batch:
        device, evidence = self.model.device, self.sequence.evidence

        def rows(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values[numbers]).to(device)

        landmarks = rows(self.sequence.landmarks)
        size = self.renderer.size
        aligned = [align_photo(photo, points[None], size) for photo, points in zip(photos, landmarks, strict=True)]
        alignment = Alignment(torch.cat([one.matrix for _, one in aligned]), size)
        target = target_of(
            self.renderer,
            torch.cat([image for image, _ in aligned]),
            alignment.apply(landmarks),
            rows(evidence.weights),
            rows(evidence.contour_vertices),
            rows(evidence.noise) * alignment.scale,
        )
        return _Batch(numbers, alignment, target)

    def state(self, sequence: FittedSequence, batch: _Batch) -> RefineState:
        """The faces that ``sequence`` has in these frames, as the renderer sees them."""
        device = self.model.device
        pose = Pose(torch.from_numpy(sequence.rotation), torch.from_numpy(sequence.translation))
        film = RefineState(
            torch.from_numpy(sequence.shape)[None], torch.from_numpy(sequence.exp), pose, sequence.camera
        )
        some = film.rows(torch.tensor(batch.numbers))
        shape = some.shape.expand(len(batch.numbers), -1).to(device)
        return aligned_state(batch.alignment, shape, some.exp.to(device), some.pose.to(device), some.camera.to(device))

    def with_style(self, start: RefineState, image: Tensor) -> RefineState:
        """The same with the inverting network's style and noise."""
        w, z, noise = invert(self.renderer, image)
        return replace(start, w=w, z=z, noise=noise)

    def latent(self, batch: _Batch, state: RefineState, row: int) -> Latent:
        """Style and noise of one frame."""
        assert state.w is not None
        assert state.noise is not None
        one = slice(row, row + 1)
        return Latent(
            state.w[one].float().cpu(),
            None if state.z is None else state.z[one].float().cpu(),
            [noise[one].half().cpu() for noise in state.noise],
            Alignment(batch.row(row).matrix.cpu(), batch.alignment.size),
            fingerprint(self.renderer.generator),
        )


def _inverted(clip: _Clip) -> FittedSequence:
    sequence = clip.sequence
    latents: list[Latent | None] = [None] * len(sequence)
    records = list(sequence.records)
    began = time.perf_counter()
    for batch in clip.batches(clip.seen, "invert"):
        state = clip.with_style(clip.state(sequence, batch), batch.target.image)
        seconds = round((time.perf_counter() - began) / len(batch.numbers), 4)
        for row, number in enumerate(batch.numbers):
            latents[number] = clip.latent(batch, state, row)
            records[number] = (*records[number], StageRecord("inversion", seconds))
        began = time.perf_counter()
    return replace(
        sequence,
        latents=tuple(latents),
        records=tuple(records),
        renderer=fingerprint(clip.renderer.generator),
    )


def _refined(clip: _Clip, config: RefineConfig) -> FittedSequence:
    sequence, model = clip.sequence, clip.model
    shape, examples, warning = _shape(clip, config)
    start_from = replace(sequence, shape=shape)
    fixed = tuple(
        replace(stage, optimise=tuple(name for name in stage.optimise if name != "shape"))
        for stage in config.stages
        if set(stage.optimise) != {"shape"}
    )
    cold = replace(config, stages=fixed)
    warm = scaled(cold, config.warm)
    last = examples[min(examples, key=lambda number: abs(number - clip.seen[0]))] if examples else None
    latents: list[Latent | None] = [None] * len(sequence)
    records: list[tuple[StageRecord, ...]] = list(sequence.records)
    placed: list[tuple[Tensor, Pose, Camera]] = []
    began = time.perf_counter()
    for batch in clip.batches(clip.seen, "refine"):
        plain = clip.state(start_from, batch)
        inverted = last is None
        start = clip.with_style(plain, batch.target.image) if last is None else carried(*last, plain, model)
        inversion = time.perf_counter() - began
        outcome = refine(model, clip.renderer, batch.target, start, cold if inverted else warm)
        state = where_geometry(~outcome.diverged, outcome.state, plain)
        pose, camera = unaligned(state, batch.alignment, sequence.camera.image_size)
        photo = replace(state, pose=pose, camera=camera)
        share = 1 / len(batch.numbers)
        for row, number in enumerate(batch.numbers):
            one = photo.rows(torch.tensor([row], device=model.device))
            placed.append((one.exp, one.pose, one.camera))
            latents[number] = clip.latent(batch, outcome.state, row)
            ran = [StageRecord("inversion", round(inversion * share, 4))] if inverted else []
            seconds = round((time.perf_counter() - began - inversion) * share, 4)
            ran.append(StageRecord("refinement", seconds, stage_losses(outcome, row)))
            records[number] = (*records[number], *ran)
        good = (~outcome.diverged).nonzero()[-1:, 0]
        if len(good):
            last = plain.rows(good), state.rows(good)
        began = time.perf_counter()
    strength = penalty(sequence.smoothing, sequence.fps)
    motion = smoothed_motion(model, placed, clip.seen, sequence.evidence.trust, strength)
    return _judged(clip, replace(start_from, **motion._asdict()), latents, records, config, warning)


def _shape(
    clip: _Clip, config: RefineConfig
) -> tuple[np.ndarray, dict[int, tuple[RefineState, RefineState]], str | None]:
    """The shape [S], from some frames together, these frames before and after (batches of 1), and what went wrong."""
    sequence, chosen = clip.sequence, clip.sequence.evidence.shape_frames
    if not chosen or not any("shape" in stage.optimise for stage in config.stages):
        return sequence.shape, {}, None
    starts, targets = [], []
    for batch in clip.batches(chosen, "look"):
        starts.append(clip.with_style(clip.state(sequence, batch), batch.target.image))
        targets.append(batch.target)
    start = stack_states(starts)
    steps = sum(stage.steps for stage in config.stages)
    before = {stage.name: sum(s.steps for s in config.stages[:k]) for k, stage in enumerate(config.stages)}
    outcome = refine(
        clip.model,
        clip.renderer,
        stack_targets(targets),
        start,
        config,
        shared_shape=True,
        at_once=clip.batch,
        progress=lambda name, done, total: clip.progress("shape", before[name] + done, steps),
    )
    failed = [str(number + 1) for number, bad in zip(chosen, outcome.diverged.tolist(), strict=True) if bad]
    warning = None
    if failed:
        warning = f"the descent diverged in frames {', '.join(failed)}, and the shape, one for all, moved no further"
    shape = outcome.state.shape[0].cpu().float().numpy()
    if not np.isfinite(shape).all() or bool(outcome.diverged.all()):
        return sequence.shape, {}, warning
    rows = [torch.tensor([row], device=clip.model.device) for row in range(len(chosen))]
    return (
        shape,
        {
            number: (start.rows(row), outcome.state.rows(row))
            for number, row in zip(chosen, rows, strict=True)
            if not bool(outcome.diverged[row])
        },
        warning,
    )


def carried(before: RefineState, after: RefineState, start: RefineState, model: MorphableModel) -> RefineState:
    """Faces changed as another one was from ``before`` to ``after`` (batches of 1), with its style and noise.

    Args:
        before, after: of a frame, in its aligned picture.
        start: B faces without style, in theirs.
        model: whose expressions have bounds.
    """
    lower, upper = model.exp_bounds.unbind(1)
    exp = torch.minimum(torch.maximum(start.exp + after.exp - before.exp, lower), upper)
    turn = after.pose.matrix() @ before.pose.matrix().mT
    rotation = matrix_to_axis_angle(turn @ start.pose.matrix())
    translation, camera = start.pose.translation, start.camera
    if isinstance(camera, OrthographicCamera):
        old, new = before.camera, after.camera
        assert isinstance(old, OrthographicCamera)
        assert isinstance(new, OrthographicCamera)
        offset = camera.offset + new.offset - old.offset
        camera = replace(camera, scale=camera.scale * new.scale / old.scale, offset=offset)
    else:
        translation = translation + after.pose.translation - before.pose.translation
    count = start.batch

    def spread(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.expand(count, *value.shape[1:])

    noise = None if after.noise is None else [n.expand(count, *n.shape[1:]) for n in after.noise]
    pose = Pose(rotation, translation)
    return RefineState(start.shape, exp, pose, camera, spread(after.w), spread(after.z), noise)


def _judged(
    clip: _Clip,
    refined: FittedSequence,
    latents: Sequence[Latent | None],
    records: Sequence[tuple[StageRecord, ...]],
    config: RefineConfig,
    warning: str | None,
) -> FittedSequence:
    """The refined film, or the landmark fit where that is no worse, with what was measured."""
    sequence, device = clip.sequence, clip.model.device
    measured: list[tuple[dict[str, Tensor], dict[str, Tensor], Tensor]] = []
    for batch in clip.batches(clip.seen, "judge"):
        looks = [look for number in batch.numbers if (look := latents[number]) is not None]
        noise = [torch.cat(maps).float().to(device) for maps in zip(*(look.noise for look in looks), strict=True)]
        after = replace(clip.state(refined, batch), w=torch.cat([look.w for look in looks]).to(device), noise=noise)
        before = clip.state(sequence, batch)
        measured.append(measures(clip.model, clip.renderer, batch.target, before, after, config))
    first, last = joined([before for before, _, _ in measured]), joined([after for _, after, _ in measured])
    finite = torch.cat([one[2] for one in measured])

    def mean(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.mean(0, keepdim=True) for name, value in values.items()}

    judgement = verdict(mean(first), mean(last), finite.all()[None], config)
    facts: dict[str, Any] = judgement.row(0)
    decider = next(name for name in ("normals", "photometric", "landmarks") if name in last)
    facts["nearer"] = round(float((last[decider] < first[decider]).float().mean()), 4)
    facts |= {} if warning is None else {"warning": warning}
    kept = bool(facts["kept"])
    final = list(records)
    for row, number in enumerate(clip.seen):
        each = {
            "kept": kept,
            **{
                side: {name: plain(value[row], 5) for name, value in values.items()}
                for side, values in (("before", first), ("after", last))
            },
        }
        *earlier, refinement = final[number]
        final[number] = (*earlier, replace(refinement, losses=each | refinement.losses))
    return replace(
        refined if kept else sequence,
        latents=tuple(None if one is None else replace(one, info={"kept": kept}) for one in latents),
        records=tuple(final),
        renderer=fingerprint(clip.renderer.generator),
        refinement=facts,
    )
