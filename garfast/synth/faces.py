"""Synthetic photographs of faces with known geometry, made on the fly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.errors import ArgumentError
from garfast.morphable import MorphableModel
from garfast.synth.background import background
from garfast.synth.clothes import torso
from garfast.synth.colour import to_linear
from garfast.synth.config import SynthConfig
from garfast.synth.dice import Dice
from garfast.synth.hair import (
    HairTemplate,
    build_hair_template,
    hair_layers,
    hair_parameters,
    sample_style,
    scalp_cover,
)
from garfast.synth.light import Light, sample_light, shadow_map, turned_light
from garfast.synth.native import (
    Floats,
    Frame,
    Layer,
    blend,
    compose,
    draw,
    dress_head,
    parameter_names,
    resolve,
)
from garfast.synth.person import Person, sample_expression, sample_person
from garfast.synth.photo import develop
from garfast.synth.shot import Shot, sample_shot
from garfast.synth.solids import Solid, solids_layer
from garfast.synth.template import SOLID, HeadTemplate, build_template
from garfast.synth.things import glasses, hat, held
from garfast.synth.truth import contour_landmarks, landmark_points, landmark_visibility

_OPEN_LIPS = 2.0  # mm; the inside of the mouth is drawn from this gap on
_SLIGHTLY_OPEN = 0.05  # share of the widest gap up to which the light is that of a closed mouth
_WIDE_OPEN = 18.0  # mm; at this gap light falls into the mouth as in the open-mouthed bake
_MIDDLE_GRAY = 0.2
_FACE = 120.0  # mm; hardly any face's landmarks lie in a smaller box
_PIXELS = 1.2  # mm; meshes are made for pixels of this size and its halves
_TOGETHER = 8  # photographs that are prepared at a time: enough to share the reading of a basis
_LINEAR = to_linear(np.arange(256.0))


class SyntheticFaces:
    """Endless synthetic photographs; sample ``i`` depends on the seed and ``i`` alone.

    Usable as a map-style dataset (``faces[i]``), with workers of a DataLoader or without. Pictures are drawn on the CPU
    by native code.

    Args:
        model: a face model, or ``(model, weight)`` pairs of which one is drawn for each picture.
        size: image side in pixels, or (height, width).
        seed: 0 or more.
        config: ranges and shares.
        device: where :meth:`batch` puts its tensors.
        length: what ``len()`` says.

    Raises:
        ArgumentError: no model, a weight that is not positive, or an image below 16 pixels.
        BackendUnavailableError: the native module is missing.
    """

    def __init__(
        self,
        model: MorphableModel | Sequence[tuple[MorphableModel, float]],
        size: int | tuple[int, int] = 128,
        seed: int = 0,
        config: SynthConfig | None = None,
        device: torch.device | str = "cpu",
        length: int = 1_000_000,
    ) -> None:
        pairs = [(model, 1.0)] if isinstance(model, MorphableModel) else list(model)
        if not pairs or any(weight <= 0 for _, weight in pairs):
            raise ArgumentError("synthetic faces need at least one model, each with a positive weight")
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(self.size) < 16:
            raise ArgumentError(f"synthetic photographs need at least 16 pixels a side, got {self.size}")
        if seed < 0:
            raise ArgumentError(f"the seed must not be negative, got {seed}")
        self.seed, self.config, self.device, self.length = seed, config or SynthConfig(), torch.device(device), length
        self._weights = np.array([weight for _, weight in pairs]) / sum(weight for _, weight in pairs)
        self._painters = [_Painter(m, self.size, self.config) for m, _ in pairs]
        self.models = tuple(m for m, _ in pairs)
        self._num_shape = max(m.num_shape for m in self.models)
        self._num_exp = max(m.num_exp for m in self.models)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.sample(index)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """What a DataLoader asks of a batch."""
        return list(self.samples(indices))

    def sample(self, index: int) -> dict[str, Any]:
        """One photograph and its truth, as numpy arrays.

        Returns:
            ``image`` uint8 [H, W, 3] sRGB; ``coverage`` uint8 [H, W] how much of a pixel the person (with hair, clothes
            and things) takes, 255 all of it; ``normal_map`` float32 [3, H, W] unit, camera space, 0 off the head, and
            ``mask`` uint8 [H, W] of the model's mesh, whether hair and things hide it or not (with
            ``config.normals``); ``landmarks68`` float32 [68, 2] photo pixels of the model's own landmarks (the
            3D-consistent flavour); ``landmarks68_contour`` [68, 2] the same with the jaw on the visible outline;
            ``landmarks68_3d`` [68, 3] camera space, mm; ``visibility`` float32 [68] 1 where the picture shows a
            landmark; ``shape`` [S], ``exp`` [E] (padded with 0 to the largest of several models); ``pose`` float32
            [6] axis-angle (radians) and translation (mm); ``angles`` float32 [3] yaw, pitch, roll (radians);
            ``camera`` dict for ``camera_from_dict``; ``model`` int, which model; ``index`` int; with
            ``person`` int, which person, for ``photos_per_person``; with
            ``config.vertices`` also ``vertices`` float32 [V, 3] of the whole model, camera space, mm.
        """
        return next(self.samples([index]))

    def samples(self, indices: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Photographs one after the other, each as :meth:`sample` makes it, but several prepared at a time: quicker."""
        rest = iter(indices)
        while group := list(islice(rest, _TOGETHER)):
            drafts = [self._draft(index) for index in group]
            for which, painter in enumerate(self._painters):
                painter.shape([draft for draft in drafts if draft.model == which])
            for draft in drafts:
                yield self._finished(draft)

    def _draft(self, index: int) -> _Draft:
        person = index // self.config.photos_per_person
        rng = _streams(self.seed, index)
        if person != index:
            rng |= {name: stream for name, stream in _streams(self.seed, person).items() if name in _PERSONAL}
        which = rng["model"].pick(self._weights)
        return _Draft(index, person, which, rng, self._painters[which].person(rng))

    def _finished(self, draft: _Draft) -> dict[str, Any]:
        out = self._painters[draft.model].paint(draft)
        out["shape"] = _padded(out["shape"], self._num_shape)
        out["exp"] = _padded(out["exp"], self._num_exp)
        return out | {"model": draft.model, "index": draft.index, "person": draft.number}

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Several photographs: arrays stacked to tensors [B, ...] on the device, the rest as lists.

        Raises:
            ArgumentError: no indices.
        """
        if not len(indices):
            raise ArgumentError("a batch needs at least one index")
        samples = list(self.samples(int(index) for index in indices))
        out: dict[str, Any] = {}
        for key in samples[0]:
            values = [sample[key] for sample in samples]
            same = isinstance(values[0], np.ndarray) and len({value.shape for value in values}) == 1
            out[key] = torch.from_numpy(np.stack(values)).to(self.device) if same else values
        return out


def _padded(values: Floats, length: int) -> Floats:
    if len(values) == length:
        return values
    out = np.zeros(length, values.dtype)
    out[: len(values)] = values
    return out


_STREAMS = ("model", "person", "shot", "light", "hair", "clothes", "things", "background", "photo", "expression")
_PERSONAL = ("model", "person", "hair")  # what the photographs of one person have in common
_Streams = dict[str, Dice]


def _streams(seed: int, index: int) -> _Streams:
    return dict(zip(_STREAMS, Dice.several([seed, index], len(_STREAMS)), strict=True))


@lru_cache(maxsize=4)
def _templates(model: MorphableModel, tolerance: float) -> tuple[HeadTemplate, HairTemplate]:
    """A model's templates take seconds to make, so the last few are kept."""
    template = build_template(model.to("cpu", torch.float32), tolerance)
    return template, build_hair_template(template)


def _tolerance(size: tuple[int, int], config: SynthConfig) -> float:
    """How far, mm, the drawn surface may leave the model's, by the largest face that a picture may show."""
    pixel = _FACE / (config.face_scale[1] * min(size))
    # One mesh for all sizes within an octave.
    return config.simplify * _PIXELS * 2.0 ** min(math.floor(math.log2(pixel / _PIXELS)), 1)


@dataclass
class _Draft:
    """A photograph before it is drawn: which, of whom, and the person's face."""

    index: int
    number: int  # of the person
    model: int
    rng: _Streams
    person: Person
    vertices: Floats = field(default_factory=lambda: np.empty((0, 3), np.float32))  # drawn, model space
    landmarks: Floats = field(default_factory=lambda: np.empty((0, 3), np.float32))  # [68, 3]
    gap: float = 0.0  # between the lips, mm


class _Painter:
    """Draws the faces of one model."""

    def __init__(self, model: MorphableModel, size: tuple[int, int], config: SynthConfig) -> None:
        self.template, self.hair = _templates(model, _tolerance(size, config))
        self.size, self.config = size, config
        self._order = {name: k for k, name in enumerate(parameter_names())}

    def person(self, rng: _Streams) -> Person:
        person = sample_person(rng["person"], self.template, self.config)
        if self.config.photos_per_person > 1:
            person.exp = sample_expression(rng["expression"], self.template.model, self.config.expression)
        return person

    def shape(self, drafts: Sequence[_Draft]) -> None:
        """Give drafts their geometry; the inside of the mouth where it shows."""
        template = self.template
        weights = np.zeros((len(drafts), len(template.step)), np.float32)
        for row, draft in zip(weights, drafts, strict=True):
            np.concatenate([draft.person.shape, draft.person.exp], out=row)
        whole = np.empty((len(drafts), *template.mean.shape), np.float32)
        basis = (template.mean, template.basis, template.step, weights)
        blend(*basis, slice(template.num_outer), whole)
        for draft, vertices in zip(drafts, whole, strict=True):
            draft.vertices = vertices[: template.num_outer]
            draft.landmarks = landmark_points(template, vertices)
            lips = draft.landmarks[[61, 62, 63]] - draft.landmarks[[67, 66, 65]]
            draft.gap = float(np.linalg.norm(lips, axis=1).max())
        opened = [(draft, vertices) for draft, vertices in zip(drafts, whole, strict=True) if draft.gap > _OPEN_LIPS]
        if opened:
            blend(*basis, slice(template.num_outer, None), whole)
        for draft, vertices in opened:
            draft.vertices = vertices

    def paint(self, draft: _Draft) -> dict[str, Any]:
        template, config, rng = self.template, self.config, draft.rng
        person, vertices, points_model = draft.person, draft.vertices, draft.landmarks
        shot = sample_shot(rng["shot"], points_model, self.size, config)
        light = sample_light(rng["light"])
        style = sample_style(rng["hair"]) if rng["hair"].random() < config.hair else None
        hatted = bool(rng["things"].random() < config.hat)
        if hatted and style is not None:
            style.flatten()
        strands, scalp = dict[str, float](), None
        if style is not None:
            strands = hair_parameters(rng["hair"], person, style)
            scalp = scalp_cover(rng["hair"], template, self.hair, style)
        parameters = self._parameters(person, shot, light) | strands
        head = self._head(person, shot, light, vertices, draft.gap, scalp)
        layers, patterns = [head], dict[str, float]()
        if config.clothes:
            clothes, patterns = torso(rng["clothes"], points_model[36:48].mean(0), shot.rotation, shot.translation)
            layers.append(clothes)
        if style is not None and style.shell:
            layers += hair_layers(rng["hair"], self.hair, style, vertices, shot.rotation, shot.translation)
        layers += self._things(rng["things"], person, shot, vertices, points_model, hatted)
        frame, seen = self._render(layers, parameters | patterns, shot, light, points_model)
        points = shot.place(points_model)
        pixels = shot.project(points)
        photo, coverage = self._photograph(rng, frame, light)
        out: dict[str, Any] = {
            "image": photo,
            "coverage": coverage,
            "landmarks68": pixels,
            "landmarks68_contour": contour_landmarks(template, shot, head.positions, pixels),
            "landmarks68_3d": points,
            "visibility": landmark_visibility(shot, frame, points, pixels),
            "shape": person.shape,
            "exp": person.exp,
            "pose": shot.pose(),
            "angles": np.array(shot.angles, np.float32),
            "camera": shot.camera_dict(),
        }
        if seen is not None:
            out["normal_map"], out["mask"] = seen
        if config.vertices:
            whole = template.model.evaluate(torch.from_numpy(person.shape), torch.from_numpy(person.exp))[0].numpy()
            out["vertices"] = shot.place(whole)
        return out

    def _head(
        self, person: Person, shot: Shot, light: Light, vertices: Floats, gap: float, scalp: Floats | None
    ) -> Layer:
        template = self.template
        inside = len(vertices) > template.num_outer
        opened = min(gap / _WIDE_OPEN, 1.0)
        triangles = template.triangles if inside else template.outer_triangles
        positions, normals, attributes = dress_head(
            vertices,
            shot.rotation,
            shot.translation,
            triangles,
            template.attributes,
            template.openness_closed,
            template.openness_open,
            turned_light(light.radiance, shot.rotation),
            opened if opened > _SLIGHTLY_OPEN else 0.0,
            scalp,
            person.beard,
            template.fields[1, person.blotches[0]],
            template.fields[2, person.blotches[1]],
        )
        materials = template.materials if inside else template.outer_materials
        return Layer(positions, normals, attributes, triangles, materials, True)

    def _things(
        self,
        rng: Dice,
        person: Person,
        shot: Shot,
        vertices: Floats,
        landmarks: Floats,
        hatted: bool,
    ) -> list[Layer]:
        """Glasses, a hat, something held: opaque things first, lenses last."""
        solids: list[Solid] = []
        clear: list[Solid] = []
        if rng.random() < self.config.glasses:
            frames, clear = glasses(rng, landmarks)
            solids += frames
        if hatted:
            solids += hat(rng, self.hair, vertices, landmarks[36:48].mean(0))
        if rng.random() < self.config.object:
            solids += held(rng, landmarks, person.skin)
        return [solids_layer(group, shot.rotation, shot.translation) for group in (solids, clear) if group]

    def _parameters(self, person: Person, shot: Shot, light: Light) -> dict[str, float]:
        iris = self.template.iris_sine
        return {
            "pixel_mm": shot.pixel_mm,
            "orthographic": float(shot.orthographic),
            "iris_radius": iris,
            "pupil_radius": iris * 0.4,
            **light.parameters(),
            **person.parameters,
        }

    def _render(
        self, layers: list[Layer], parameters: dict[str, float], shot: Shot, light: Light, points_model: Floats
    ) -> tuple[Frame, tuple[Floats, NDArray[np.uint8]] | None]:
        """The picture of all layers, and with ``config.normals`` the head's normals and mask."""
        # Lenses throw no shadow, nor does what is inside the mouth.
        head, outer = layers[0], self.template.num_outer
        opaque = [head._replace(positions=head.positions[:outer], triangles=self.template.shadow_triangles)]
        opaque += [layer for layer in layers[1:] if layer.materials[0] != SOLID or layer.attributes[0, 7] == 1]
        middle = shot.place(points_model[27:31].mean(0, keepdims=True) * [1, 1, 0.3])[0]
        depth, lookup = shadow_map(light, opaque, middle)
        packed = np.zeros(len(self._order), np.float32)
        for name, value in (parameters | lookup).items():
            packed[self._order[name]] = value
        ambient, ndc, frame = light.ambient(), shot.ndc(), Frame.empty(self.size)
        seen = draw(head, ndc, packed, ambient, depth, frame, normals=self.config.normals)
        for layer in layers[1:]:
            draw(layer, ndc, packed, ambient, depth, frame)
        return frame, seen

    def _photograph(self, rng: _Streams, frame: Frame, light: Light) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        colour, sums = resolve(frame)
        behind = background(rng["background"], self.size, self.config.busy_background)
        linear = _LINEAR * np.float32(rng["background"].uniform(0.5, 1.2))
        # A camera half follows the brightness of what fills the picture.
        metered = float(sums[:3].sum()) / max(3 * float(sums[3]), 1.0) * light.exposure
        exposure = light.exposure * (_MIDDLE_GRAY / max(metered, 0.02)) ** 0.45
        picture, coverage = compose(colour, exposure, behind, linear)
        return develop(rng["photo"], picture, self.config.photo_faults), coverage
