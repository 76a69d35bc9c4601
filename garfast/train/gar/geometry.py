"""Random geometry for the renderer: faces from a 3DMM's prior in random poses, on the alignment template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.landmarks.alignment import align_landmarks
from garfast.morphable import Camera, MorphableModel, OrthographicCamera, PinholeCamera, Pose
from garfast.synth.dice import Dice
from garfast.synth.person import sample_expression
from garfast.train.portraits import Geometry


@dataclass(frozen=True)
class GeometryPrior:
    """How random faces look and stand.

    Attributes:
        yaw, pitch, roll: standard deviations of the head's angles, radians; alignment takes out most of the roll.
        limit: no angle lies beyond this many standard deviations.
        shape_scale: smallest and largest spread of identity coefficients, in standard deviations; drawn per person.
        expression: strength of expressions; 0 is neutral.
        perspective: share of pinhole cameras; the rest are scaled orthographic.
        distance: nearest and farthest pinhole camera, mm.
    """

    yaw: float = 0.5
    pitch: float = 0.1
    roll: float = 0.05
    limit: float = 2.2
    shape_scale: tuple[float, float] = (0.5, 1.1)
    expression: float = 1.0
    perspective: float = 0.0
    distance: tuple[float, float] = (450.0, 3000.0)


class GeometrySampler:
    """Draws persons, each with several expressions and poses.

    Args:
        models: face models and their shares.
        size: side of the aligned pictures, pixels.
        prior: distribution of coefficients and poses.

    Raises:
        ArgumentError: there is no model.
    """

    def __init__(
        self, models: Sequence[tuple[MorphableModel, float]], size: int, prior: GeometryPrior | None = None
    ) -> None:
        if not models:
            raise ArgumentError("random geometry needs at least one face model")
        self.models = [model for model, _ in models]
        shares = np.array([share for _, share in models], dtype=np.float64)
        self.shares = shares / shares.sum()
        self.size, self.prior = size, prior or GeometryPrior()

    def sample(self, seed: Sequence[int], persons: int, variants: int = 2) -> list[Geometry]:
        """Faces in groups of one model and projection.

        Args:
            seed: non-negative numbers that decide everything.
            persons: how many identities.
            variants: expressions and poses of each; face ``person * variants + k`` of the batch is variant ``k``.
        """
        rng = np.random.default_rng(list(seed))
        chosen = rng.choice(len(self.models), size=persons, p=self.shares)
        pinhole = rng.random(persons) < self.prior.perspective
        groups = []
        for index, model in enumerate(self.models):
            for perspective in (False, True):
                who = np.flatnonzero((chosen == index) & (pinhole == perspective))
                if len(who):
                    rows = (who[:, None] * variants + np.arange(variants)).reshape(-1)
                    groups.append(self._group(rng, model, torch.from_numpy(rows), len(who), variants, perspective))
        return groups

    def _group(
        self,
        rng: np.random.Generator,
        model: MorphableModel,
        rows: Tensor,
        persons: int,
        variants: int,
        perspective: bool,
    ) -> Geometry:
        prior, count = self.prior, persons * variants
        device = model.device
        low, high = prior.shape_scale
        spread = low + (high - low) * rng.random((persons, 1))
        shape = np.clip(rng.standard_normal((persons, model.num_shape)) * spread, -3, 3)
        dice = Dice(rng)
        exp = np.stack([sample_expression(dice, model, prior.expression) for _ in range(count)])
        angles = np.clip(rng.standard_normal((count, 3)), -prior.limit, prior.limit)
        angles *= np.array([prior.yaw, prior.pitch, prior.roll])
        near, far = np.log(prior.distance)
        distance = np.exp(near + (far - near) * rng.random(count))

        def tensor(value: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(value, np.float32)).to(device)

        shapes, exps = tensor(shape.repeat(variants, 0)), tensor(exp)
        yaw, pitch, roll = tensor(angles).unbind(1)
        pose = Pose.from_euler(yaw, pitch, roll)
        if perspective:
            centre = model.landmarks(model.mean[None]).mean(1)
            back = torch.stack([torch.zeros_like(yaw), torch.zeros_like(yaw), -tensor(distance)], 1)
            pose = Pose(pose.rotation, back - (pose.matrix() @ centre[0]))
        camera, pose = self._align(model, shapes, exps, pose, perspective)
        return Geometry(
            rows.to(device), model, shapes, exps, pose, camera.ndc(), "pinhole" if perspective else "orthographic"
        )

    def _align(
        self, model: MorphableModel, shape: Tensor, exp: Tensor, pose: Pose, perspective: bool
    ) -> tuple[Camera, Pose]:
        """The camera that puts the landmarks on the template, and the pose without the roll that this takes out."""
        count = len(shape)
        ones, zeros = shape.new_ones(count), shape.new_zeros(count, 2)
        size = (self.size, self.size)
        camera: Camera
        if perspective:
            camera = PinholeCamera(ones[:, None].expand(-1, 2), zeros, size)
        else:
            camera = OrthographicCamera(ones, zeros, size)
        pixels = camera.project(pose.apply(model.landmarks(model.evaluate(shape, exp))))
        return align_landmarks(pixels, self.size).camera(camera, pose)
