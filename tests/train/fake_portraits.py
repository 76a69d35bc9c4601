"""Drawings in the form of portraits, for tests that need no renderer: shaded ellipsoids with their true normals."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from garfast.morphable import Pose
from garfast.train.portraits import Geometry, PortraitSource
from tests.tiny_face import make_tiny_model


class FakePortraits(PortraitSource):
    """Four pictures of each person, whose ellipsoid has a form and a colour of its own; the light is each picture's."""

    def __init__(self, count: int = 80, size: int = 64) -> None:
        self.count, self.size = count, size
        rng = np.random.default_rng(0)
        people = -(-count // 4)
        self._radii = torch.from_numpy(rng.uniform(0.45, 0.75, (people, 2))).float()
        self._colour = torch.from_numpy(rng.uniform(0.3, 0.9, (people, 3))).float()
        self._model = make_tiny_model()
        self._shape = torch.from_numpy(rng.normal(0, 1, (people, self._model.num_shape))).float()
        self._middle = torch.from_numpy(rng.uniform(-0.15, 0.15, (count, 2))).float()
        self._light = torch.nn.functional.normalize(
            torch.from_numpy(rng.normal([0, 0, 1.5], 0.7, (count, 3))).float(), dim=1
        )

    def arrays(self, rows, names):
        raise NotImplementedError  # what reads them is overridden below

    def person(self, rows: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(rows) // 4)

    def geometry(self, rows: np.ndarray) -> list[Geometry]:
        """Every face straight before the camera: only its shape says who it is."""
        index = torch.as_tensor(np.asarray(rows))
        count = len(index)
        exp, pose = torch.zeros(count, self._model.num_exp), Pose(torch.zeros(count, 3), torch.zeros(count, 3))
        camera = torch.tensor([0.01, 0.01, 0, 0]).expand(count, -1)
        shape = self._shape[index // 4]
        return [Geometry(torch.arange(count), self._model, shape, exp, pose, camera, "orthographic")]

    def landmarks(self, rows: np.ndarray) -> Tensor:
        index = torch.as_tensor(np.asarray(rows))
        angle = torch.linspace(0, 2 * np.pi, 69)[:68]
        ring = torch.stack([angle.cos(), -angle.sin()], -1) * self._radii[index // 4][:, None]
        middle = self._middle[index][:, None] * torch.tensor([1.0, -1.0])
        return (ring + middle + 1) * (self.size / 2)

    def normal_maps(self, rows: np.ndarray, resolutions: int) -> Tensor:
        index = torch.as_tensor(np.asarray(rows))
        axis = (torch.arange(resolutions) + 0.5) / resolutions * 2 - 1
        radii = self._radii[index // 4][..., None, None]
        middle = self._middle[index][..., None, None]
        x = (axis[None, :] - middle[:, 0]) / radii[:, 0]
        y = (-axis[:, None] - middle[:, 1]) / radii[:, 1]
        z = (1 - x**2 - y**2).clamp_min(0).sqrt()
        x, y = torch.broadcast_tensors(x / radii[:, 0], y / radii[:, 1])
        gradient = torch.stack([x, y, z / 0.6], 1)
        return torch.nn.functional.normalize(gradient, dim=1) * (z > 0)[:, None]

    def take(self, rows: np.ndarray) -> Tensor:
        index = torch.as_tensor(np.asarray(rows))
        normals = self.normal_maps(rows, self.size)
        shade = 0.25 + 0.75 * (normals * self._light[index][..., None, None]).sum(1, keepdim=True).clamp_min(0)
        image = shade * self._colour[index // 4][..., None, None]
        image = torch.where(
            normals.norm(dim=1, keepdim=True) > 0, image, 0.1 + 0.2 * self._light[index, 2, None, None, None]
        )
        return (image * 255).round().clamp(0, 255).to(torch.uint8)
