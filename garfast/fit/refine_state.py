"""What the refinement changes, what it is compared with, and what comes out: batches of B faces in aligned pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.morphable import Camera, OrthographicCamera, Pose


@dataclass(frozen=True, eq=False)
class RefineState:
    """B faces as the renderer sees them. Give one to start warm: all of it is what the descent starts from.

    Attributes:
        shape: [B, S] identity, standard deviations; [1, S] where all faces are one person's.
        exp: [B, E] expression, standard deviations.
        pose: model space to camera space of the aligned picture.
        camera: of the aligned picture; its size is the renderer's.
        w: [B, num_styles, style_dim] styles, or None where there is no renderer.
        z: [B, z_dim] the code they come from; None where they come from none.
        noise: one map [B, 1, r, r] per convolution of the renderer; None where there is no renderer.
    """

    shape: Tensor
    exp: Tensor
    pose: Pose
    camera: Camera
    w: Tensor | None = None
    z: Tensor | None = None
    noise: list[Tensor] | None = None

    @property
    def batch(self) -> int:
        """B."""
        return self.exp.shape[0]

    @property
    def size(self) -> int:
        """Side of the aligned pictures, pixels."""
        return self.camera.image_size[0]

    def camera_row(self, face: int) -> Camera:
        """The camera of one face, a batch of 1."""
        return camera_rows(self.camera, torch.tensor([face], device=self.exp.device))

    def rows(self, rows: Tensor) -> RefineState:
        """The faces with these indices [n]; a shared shape stays shared."""
        return replace(
            self,
            shape=self.shape if len(self.shape) == 1 and self.batch > 1 else self.shape[rows],
            exp=self.exp[rows],
            pose=Pose(self.pose.rotation[rows], self.pose.translation[rows]),
            camera=camera_rows(self.camera, rows),
            w=None if self.w is None else self.w[rows],
            z=None if self.z is None else self.z[rows],
            noise=None if self.noise is None else [noise[rows] for noise in self.noise],
        )


@dataclass(frozen=True, eq=False)
class RefineTarget:
    """What B photographs say.

    Attributes:
        image: [B, 3, S, S] aligned photographs, RGB -1..1.
        landmarks: [B, 68, 2] aligned pixels, iBUG order; NaN where missing.
        landmark_weights: [B, 68] not negative; 0 where missing.
        contour_vertices: [B, 17] int64, the vertices that landmarks 0-16 mean, -1 where that is the model's own point;
            None: all are.
        normals: [B, 3, S, S] estimated unit normals; None where there is no estimator.
        cover: [B, 1, S, S] how probable it is that a pixel shows the face, 0..1; None where there is no estimator.
        landmark_noise: [B] expected error of a landmark's coordinate, aligned pixels; None: the settings say.
    """

    image: Tensor
    landmarks: Tensor
    landmark_weights: Tensor
    contour_vertices: Tensor | None = None
    normals: Tensor | None = None
    cover: Tensor | None = None
    landmark_noise: Tensor | None = None

    def rows(self, rows: Tensor) -> RefineTarget:
        """The faces with these indices [n]."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value[rows] for name, value in values.items()})


@dataclass(frozen=True, eq=False)
class StageOutcome:
    """How one stage went.

    Attributes:
        name: of the stage.
        steps: [B] iterations that changed each face.
        seconds: of all faces together.
        first, last: each loss by name, [B], before and after; what is not computed is absent.
    """

    name: str
    steps: Tensor
    seconds: float
    first: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RefineOutcome:
    """What `garfast.fit.refine.refine` returns.

    Attributes:
        state: the refined faces.
        stages: what each stage did.
        diverged: [B] bool: a loss or a gradient was not finite; such a face stays where it was last.
    """

    state: RefineState
    stages: tuple[StageOutcome, ...]
    diverged: Tensor


def plain(value: Tensor, digits: int) -> float | None:
    """A number for JSON, which knows no NaN: None where it is not finite."""
    number = float(value)
    return round(number, digits) if math.isfinite(number) else None


def camera_rows(camera: Camera, rows: Tensor | slice) -> Camera:
    """The cameras of some faces."""
    if isinstance(camera, OrthographicCamera):
        return replace(camera, scale=camera.scale[rows], offset=camera.offset[rows])
    return replace(camera, focal=camera.focal[rows], centre=camera.centre[rows])


def where_geometry(kept: Tensor, new: RefineState, old: RefineState) -> RefineState:
    """The faces of ``new``, with the geometry of ``old`` where ``kept`` [B] is false. A shared shape is unshared."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        a, b = a.expand(len(kept), *a.shape[1:]), b.expand(len(kept), *b.shape[1:])
        return torch.where(kept.view(-1, *[1] * (a.dim() - 1)), a, b)

    camera = stack_cameras([(new if keep else old).camera_row(face) for face, keep in enumerate(kept.tolist())])
    pose = Pose(pick(new.pose.rotation, old.pose.rotation), pick(new.pose.translation, old.pose.translation))
    return replace(new, shape=pick(new.shape, old.shape), exp=pick(new.exp, old.exp), pose=pose, camera=camera)


def stack_states(states: list[RefineState]) -> RefineState:
    """One batch of several, in order.

    Raises:
        ArgumentError: they do not go together.
    """
    cameras = stack_cameras([state.camera for state in states])
    rotation = torch.cat([state.pose.rotation for state in states])
    pose = Pose(rotation, torch.cat([state.pose.translation for state in states]))

    def join(values: list[Tensor | None]) -> Tensor | None:
        present = [value for value in values if value is not None]
        return torch.cat(present) if len(present) == len(values) else None

    shape = torch.cat([state.shape.expand(state.batch, -1) for state in states])
    exp = torch.cat([state.exp for state in states])
    noises = [state.noise for state in states if state.noise is not None]
    noise = [torch.cat(maps) for maps in zip(*noises, strict=True)] if len(noises) == len(states) else None
    return RefineState(shape, exp, pose, cameras, join([s.w for s in states]), join([s.z for s in states]), noise)


def stack_targets(targets: list[RefineTarget]) -> RefineTarget:
    """One batch of several, in order; what one of them lacks, all lack."""
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(RefineTarget)):
        present = [value for target in targets if (value := getattr(target, name)) is not None]
        values[name] = torch.cat(present) if len(present) == len(targets) else None
    return RefineTarget(**values)


def stack_cameras(cameras: list[Camera]) -> Camera:
    """One camera of several with one picture size.

    Raises:
        ArgumentError: they differ in kind or size.
    """
    first = cameras[0]
    if any(type(c) is not type(first) or c.image_size != first.image_size for c in cameras):
        raise ArgumentError("cameras of one batch must be of one kind and have one picture size")
    if isinstance(first, OrthographicCamera):
        ortho = [c for c in cameras if isinstance(c, OrthographicCamera)]
        return replace(first, scale=torch.cat([c.scale for c in ortho]), offset=torch.cat([c.offset for c in ortho]))
    pinhole = [c for c in cameras if not isinstance(c, OrthographicCamera)]
    return replace(first, focal=torch.cat([c.focal for c in pinhole]), centre=torch.cat([c.centre for c in pinhole]))
