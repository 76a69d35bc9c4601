"""The linear morphable face model of equation 12: ``vertices = mean + shape_basis * shape + exp_basis * exp``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from garfast.errors import ArgumentError

if TYPE_CHECKING:
    from garfast.ops import VertexAdjacency

NUM_LANDMARKS = 68
NUM_JAW = 17

# The prior that `MorphableModel.sample` draws from: the largest identity coefficient, in standard deviations, and the
# share of expressions that a face shows.
SHAPE_LIMIT = 3.0
EXP_ACTIVE = 0.3


@dataclass(frozen=True, eq=False, kw_only=True)
class MorphableModel:
    """A face as a mean mesh and two linear bases.

    Axes: x to the subject's left (image right), y up, z out of the face; millimetres. Floating-point tensors share one
    dtype (float32 in files) and all tensors share one device. Constructing a model checks the shapes; the values are
    checked by :meth:`validate`, which loading and importing call.

    Attributes:
        name: short name, also the file's name in the user's model folder.
        mean: [V, 3] the neutral average face, mm.
        triangles: [F, 3] int32, counter-clockwise seen from outside.
        shape_basis: [S, V, 3] mm per standard deviation of each identity coefficient.
        exp_basis: [E, V, 3] mm per standard deviation of each expression coefficient.
        exp_bounds: [E, 2] lowest and highest useful expression coefficients, in standard deviations; -inf and inf
            where free, lower 0 for one-sided blendshapes.
        landmark_triangles: [68, 3] int64, the vertices around each iBUG landmark; a plain vertex is ``(v, v, v)``.
        landmark_weights: [68, 3] barycentric weights that sum to 1; a plain vertex is ``(1, 0, 0)``.
        contour: [17, K] int64, for each jaw landmark 0..16 the vertices it may slide over when the head turns: its own
            first, then along the cheek toward the front, padded with -1.
        uv: [U, 2] texture coordinates, v up; U = 0 where the model has none.
        uv_triangles: [F, 3] int32 into ``uv``; [0, 3] where the model has none.
        shape_names: S names.
        exp_names: E names.
        mirror: [V] int64, the vertex at the mirrored place (x -> -x), or None.
        regions: soft masks [V] in 0..1 by name: 'skin', 'lips', 'brows', 'eyeballs', 'iris', 'pupil', 'lids', 'teeth',
            'tongue', 'mouth_socket', 'ears', 'scalp', 'neck'; any may be absent.
        source: where the model comes from, in words.
        licence: licence name or notice.
        units: always 'mm'.

    Raises:
        ArgumentError: a shape, a dtype, a device or a count does not fit.
    """

    name: str
    mean: Tensor
    triangles: Tensor
    shape_basis: Tensor
    exp_basis: Tensor
    exp_bounds: Tensor
    landmark_triangles: Tensor
    landmark_weights: Tensor
    contour: Tensor
    uv: Tensor
    uv_triangles: Tensor
    shape_names: tuple[str, ...]
    exp_names: tuple[str, ...]
    mirror: Tensor | None = None
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    source: str = ""
    licence: str = ""
    units: str = "mm"
    _basis: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_layout()
        # One block of memory for both bases: evaluation is then a single matrix product, and nothing is held twice.
        # A model made from another one's tensors finds them already side by side.
        basis = self._joined()
        object.__setattr__(self, "_basis", basis)
        shape_basis, exp_basis = self._split(basis)
        object.__setattr__(self, "shape_basis", shape_basis)
        object.__setattr__(self, "exp_basis", exp_basis)

    @property
    def num_vertices(self) -> int:
        """V."""
        return self.mean.shape[0]

    @property
    def num_shape(self) -> int:
        """S, the number of identity coefficients."""
        return self.shape_basis.shape[0]

    @property
    def num_exp(self) -> int:
        """E, the number of expression coefficients."""
        return self.exp_basis.shape[0]

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.mean.device

    @cached_property
    def adjacency(self) -> VertexAdjacency:
        """The corners around each vertex, for ``garfast.ops.vertex_normals``; built on first use."""
        from garfast.ops import VertexAdjacency

        return VertexAdjacency.build(self.triangles, self.num_vertices)

    def evaluate(self, shape: Tensor | None = None, exp: Tensor | None = None) -> Tensor:
        """Vertices of faces with the given coefficients.

        Args:
            shape: [B, s] or [s] identity coefficients in standard deviations, s <= S: the leading ones; None is 0.
            exp: [B, e] or [e] expression coefficients in standard deviations, e <= E: the leading ones; None is 0.
                A batch of 1 is broadcast against the other argument. Bounds are not applied.

        Returns:
            [B, V, 3] vertices in model space, mm; B is 1 where no argument has a batch. Differentiable in both.

        Raises:
            ArgumentError: too many coefficients, wrong dimensions, dtype or device, or batch sizes that differ.
        """
        coefficients, rows = [], []
        for value, name, start, count in (
            (shape, "shape", 0, self.num_shape),
            (exp, "exp", self.num_shape, self.num_exp),
        ):
            if value is not None:
                value = self._coefficients(value, name, count)
                coefficients.append(value)
                rows.append((start, start + value.shape[1]))
        if not coefficients:
            return self.mean[None].clone()
        batch = _broadcast_batch(coefficients)
        flat = self.mean.reshape(1, -1).expand(batch, -1)
        if len(rows) == 2 and rows[0][1] == rows[1][0]:  # all shape coefficients: adjacent rows, one product
            joined = torch.cat([c.expand(batch, -1) for c in coefficients], 1)
            coefficients, rows = [joined], [(0, rows[1][1])]
        for value, (start, stop) in zip(coefficients, rows, strict=True):
            flat = torch.addmm(flat, value.expand(batch, -1), self._basis[start:stop])
        return flat.view(batch, self.num_vertices, 3)

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Random coefficients: the prior of faces that random samples, and claims about them, mean.

        Identity coefficients are standard normal, cut off at ``SHAPE_LIMIT``. Nobody blinks, puckers and opens the jaw
        at once: each expression is active with probability ``EXP_ACTIVE``; an active coefficient is standard normal,
        folded to positive values where it is one-sided, and kept within ``exp_bounds``.

        Args:
            count: B, how many faces.
            generator: on the CPU; None is torch's own.

        Returns:
            shape [B, S] and exp [B, E] with the model's dtype and device, for :meth:`evaluate`. The same generator
            state gives the same faces on every device.
        """
        shape = torch.randn(count, self.num_shape, generator=generator).clamp(-SHAPE_LIMIT, SHAPE_LIMIT)
        exp = torch.randn(count, self.num_exp, generator=generator)
        exp = exp * (torch.rand(count, self.num_exp, generator=generator) < EXP_ACTIVE)
        lower, upper = self.exp_bounds.unbind(1)
        exp = exp.to(self.mean)
        exp = torch.where(lower >= 0, exp.abs(), exp).clamp(lower, upper)
        return shape.to(self.mean), exp

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The 68 landmarks [..., 68, 3] of vertices [..., V, 3], in any space that is linear in the vertices.

        Raises:
            ArgumentError: ``vertices`` does not have this model's number of vertices.
        """
        if vertices.ndim < 2 or tuple(vertices.shape[-2:]) != (self.num_vertices, 3):
            raise ArgumentError(f"vertices must have shape [..., {self.num_vertices}, 3], got {list(vertices.shape)}")
        corners = vertices.index_select(-2, self.landmark_triangles.reshape(-1)).unflatten(-2, (NUM_LANDMARKS, 3))
        return (corners * self.landmark_weights[..., None].to(vertices.dtype)).sum(-2)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MorphableModel:
        """The same model on another device or in another floating-point dtype (integer tensors keep theirs)."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, dtype if value.is_floating_point() else None)
            return {key: move(item) for key, item in value.items()} if isinstance(value, Mapping) else value

        skip = ("shape_basis", "exp_basis")
        values = {
            item.name: move(getattr(self, item.name)) for item in fields(self) if item.init and item.name not in skip
        }
        # Moved as one, so that both bases stay views of one block.
        values["shape_basis"], values["exp_basis"] = self._split(move(self._basis))
        return MorphableModel(**values)

    def validate(self) -> None:
        """Check the values: finite numbers, indices in range, weights that sum to 1, ordered bounds.

        Raises:
            ArgumentError: says which array is wrong and what was expected.
        """
        for name in ("mean", "shape_basis", "exp_basis", "landmark_weights", "uv"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ArgumentError(f"'{name}' contains NaN or infinite values")
        vertices = self.num_vertices
        _check_range(self.triangles, 0, vertices, "triangles", "vertices")
        _check_range(self.landmark_triangles, 0, vertices, "landmark_triangles", "vertices")
        _check_range(self.contour, -1, vertices, "contour", "vertices")
        _check_range(self.uv_triangles, 0, self.uv.shape[0], "uv_triangles", "texture coordinates")
        if self.mirror is not None:
            _check_range(self.mirror, 0, vertices, "mirror", "vertices")
        if bool((self.contour < 0).all(1).any()):
            raise ArgumentError("'contour' must have at least one vertex for each of the 17 jaw landmarks")
        if bool(((self.landmark_weights.sum(1) - 1).abs() > 1e-3).any()):
            raise ArgumentError("'landmark_weights' must sum to 1 for each landmark")
        lower, upper = self.exp_bounds.unbind(1)
        if not bool((lower < upper).all()):  # also false where a bound is NaN
            raise ArgumentError("'exp_bounds' must have a lower bound below the upper one for each coefficient")
        for name, mask in self.regions.items():
            if not bool(((mask >= 0) & (mask <= 1)).all()):
                raise ArgumentError(f"region '{name}' must have values between 0 and 1")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as one ``.npz`` (docs/models.md has the format), whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        from garfast.morphable.model_file import write_model

        write_model(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MorphableModel:
        """Read and validate a model ``.npz``. No pickled objects are read: a file from a stranger cannot run code.

        Raises:
            ModelFileError: the file is missing, truncated, of another kind, or its contents do not fit together.
        """
        from garfast.morphable.model_file import read_model

        return read_model(path)

    def _split(self, basis: Tensor) -> tuple[Tensor, Tensor]:
        whole = basis.view(-1, self.num_vertices, 3)
        return whole[: self.num_shape], whole[self.num_shape :]

    def _joined(self) -> Tensor:
        shape, exp = self.shape_basis, self.exp_basis
        rows, columns = shape.shape[0] + exp.shape[0], 3 * self.num_vertices
        if (
            shape.untyped_storage().data_ptr() == exp.untyped_storage().data_ptr()
            and shape.is_contiguous()
            and exp.is_contiguous()
            and exp.storage_offset() == shape.storage_offset() + shape.numel()
        ):
            return shape.as_strided((rows, columns), (columns, 1), shape.storage_offset())
        return torch.cat([shape.reshape(-1, columns), exp.reshape(-1, columns)])

    def _coefficients(self, value: Tensor, name: str, count: int) -> Tensor:
        if value.ndim == 1:
            value = value[None]
        if value.ndim != 2 or value.shape[1] > count:
            raise ArgumentError(f"{name} must have shape [B, n] with n at most {count}, got {list(value.shape)}")
        if value.dtype != self.mean.dtype or value.device != self.device:
            raise ArgumentError(
                f"{name} must be {self.mean.dtype} on {self.device} like the model, got {value.dtype} on {value.device}"
            )
        return value

    def _check_layout(self) -> None:
        if self.units != "mm":
            raise ArgumentError(f"units must be 'mm', got {self.units!r}")
        sizes: dict[str, int] = {}
        for name, shape in _LAYOUT.items():
            _check_shape(getattr(self, name), shape, name, sizes)
        if self.num_vertices == 0 or self.triangles.shape[0] == 0:
            raise ArgumentError("a face model needs at least one vertex and one triangle")
        if self.uv.shape[0] == 0 and self.uv_triangles.shape[0] != 0:
            raise ArgumentError("'uv_triangles' must be empty where 'uv' is empty")
        if self.uv.shape[0] != 0 and self.uv_triangles.shape[0] != self.triangles.shape[0]:
            raise ArgumentError(
                f"'uv_triangles' must have one row for each of the {self.triangles.shape[0]} triangles, "
                f"got {self.uv_triangles.shape[0]}"
            )
        optional: dict[str, Tensor] = {f"region '{key}'": mask for key, mask in self.regions.items()}
        for name, mask in optional.items():
            _check_shape(mask, ("V",), name, sizes)
        if self.mirror is not None:
            _check_shape(self.mirror, ("V",), "mirror", sizes)
        for names, count, label in (
            (self.shape_names, self.num_shape, "shape"),
            (self.exp_names, self.num_exp, "exp"),
        ):
            if len(names) != count:
                raise ArgumentError(f"{label}_names must have {count} names, got {len(names)}")
        for name in _INTEGER:
            value = getattr(self, name)
            if value is not None and value.dtype != _INTEGER[name]:
                raise ArgumentError(f"'{name}' must be {_INTEGER[name]}, got {value.dtype}")
        tensors = {name: getattr(self, name) for name in _LAYOUT} | optional
        for name, value in tensors.items():
            if name not in _INTEGER and (not value.is_floating_point() or value.dtype != self.mean.dtype):
                raise ArgumentError(f"'{name}' must be {self.mean.dtype} like 'mean', got {value.dtype}")
            if value.device != self.device:
                raise ArgumentError(f"'{name}' must be on {self.device} like 'mean', got {value.device}")


_LAYOUT: dict[str, tuple[str | int, ...]] = {
    "mean": ("V", 3),
    "triangles": ("F", 3),
    "shape_basis": ("S", "V", 3),
    "exp_basis": ("E", "V", 3),
    "exp_bounds": ("E", 2),
    "landmark_triangles": (NUM_LANDMARKS, 3),
    "landmark_weights": (NUM_LANDMARKS, 3),
    "contour": (NUM_JAW, "K"),
    "uv": ("U", 2),
    "uv_triangles": ("T", 3),
}
_INTEGER = {
    "triangles": torch.int32,
    "uv_triangles": torch.int32,
    "landmark_triangles": torch.int64,
    "contour": torch.int64,
    "mirror": torch.int64,
}


def _check_shape(value: Tensor, shape: tuple[str | int, ...], name: str, sizes: dict[str, int]) -> None:
    """Match a tensor with a shape whose letters stand for sizes seen before, or set them."""
    text = "[" + ", ".join(str(sizes.get(str(n), n)) for n in shape) + "]"
    if not isinstance(value, Tensor) or value.ndim != len(shape):
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(f"'{name}' must be a tensor of shape {text}, got {got}")
    for expected, size in zip(shape, value.shape, strict=True):
        if (sizes.setdefault(expected, size) if isinstance(expected, str) else expected) != size:
            raise ArgumentError(f"'{name}' must have shape {text}, got {list(value.shape)}")


def _check_range(indices: Tensor, low: int, high: int, name: str, what: str) -> None:
    if indices.numel() and (int(indices.min()) < low or int(indices.max()) >= high):
        raise ArgumentError(f"'{name}' must hold indices of the {high} {what}, from {low} to {high - 1}")


def _broadcast_batch(values: list[Tensor]) -> int:
    sizes = {value.shape[0] for value in values} - {1}
    if len(sizes) > 1:
        raise ArgumentError(f"shape and exp must have the same batch size, got {' and '.join(map(str, sorted(sizes)))}")
    return sizes.pop() if sizes else 1
