"""Equation 10 as a function: from the parameters of B faces to the losses of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError, WeightsFileError
from garfast.fit import refine_losses as terms
from garfast.fit.colour_match import match_colours
from garfast.fit.landmark_geometry import with_contour
from garfast.fit.normal_pyramid import averaged_normals, check_draws_normals, sample_sizes
from garfast.fit.refine_config import LossWeights, RefineConfig
from garfast.fit.refine_state import RefineState, RefineTarget
from garfast.morphable import Camera, MorphableModel, OrthographicCamera, Pose, axis_angle_to_matrix
from garfast.morphable.rotation import matrix_to_axis_angle
from garfast.ops import RasterOutput, rasterize_normals, upfirdn2d

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

# Parts of a model that photographs seldom show as the model has them, or that hair covers.
_LEFT_OUT = ("scalp", "ears", "neck", "mouth_socket", "teeth", "tongue")
# Squares along a side that are held out or not.
_SQUARES = 16


@dataclass
class Variables:
    """What descends, as leaves of autograd. Pose, camera and w are changes to where they start; 0 at the start.

    Attributes:
        shape: [B, S], or [1, S] where it is shared.
        exp: [B, E].
        pose: [B, 3] rotation in camera space, radians, applied after the start's.
        camera: [B, 3] logarithm of the scale; offset to the right and down, sides of the picture.
        latent: change of w [B, 1, style_dim] ('w') or [B, num_styles, style_dim] ('w+'), or z itself [B, z_dim].
        noise: [B, N] all noise maps, one after the other.
    """

    shape: Tensor
    exp: Tensor
    pose: Tensor
    camera: Tensor
    latent: Tensor
    noise: Tensor

    @classmethod
    def of(cls, state: RefineState, latent: str) -> Variables:
        """The start of a descent."""
        batch, exp = state.batch, state.exp
        empty = exp.new_zeros(batch, 0)
        code = empty
        if state.w is not None:
            if latent == "z":
                if state.z is None:
                    raise ArgumentError("latent 'z' needs the code z that the start's styles come from: use 'w'")
                code = state.z.clone()
            else:
                code = torch.zeros_like(state.w[:, :1] if latent == "w" else state.w)
        noise = (
            empty
            if state.noise is None
            else torch.cat([n.expand(batch, -1, -1, -1).flatten(1) for n in state.noise], 1)
        )
        values = (state.shape.clone(), exp.clone(), exp.new_zeros(batch, 3), exp.new_zeros(batch, 3), code, noise)
        return cls(*(value.detach().contiguous() for value in values))

    def rows(self, first: int, last: int) -> Variables:
        """Views of the faces ``first`` up to ``last``; a shared shape stays shared."""
        values = vars(self).items()
        return Variables(**{n: v if n == "shape" and len(v) < len(self.exp) else v[first:last] for n, v in values})


def geometry_of(start: RefineState, variables: Variables) -> tuple[Pose, Camera]:
    """Pose and camera after the changes. Under perspective the face moves, and the camera stays as it is."""
    rotation = axis_angle_to_matrix(variables.pose) @ start.pose.matrix()
    translation, camera = start.pose.translation, start.camera
    growth, shift = variables.camera[:, 0], variables.camera[:, 1:]
    if isinstance(camera, OrthographicCamera):
        camera = replace(camera, scale=camera.scale * growth.exp(), offset=camera.offset + shift * start.size)
    else:
        depth = translation[:, 2] * (-growth).exp()
        across = shift * start.size / camera.focal * -depth[:, None]
        x, y = translation[:, 0] + across[:, 0], translation[:, 1] - across[:, 1]
        translation = torch.stack([x, y, depth], -1)
    return Pose(matrix_to_axis_angle(rotation), translation), camera


def state_of(start: RefineState, variables: Variables, config: RefineConfig, renderer: Renderer | None) -> RefineState:
    """The faces that the variables stand for, detached."""
    with torch.no_grad():
        pose, camera = geometry_of(start, variables)
        w = None if start.w is None or renderer is None else styles_of(start, variables, config, renderer)
        noise = None if start.noise is None else [n.clone() for n in noise_maps(start, variables)]
    latent = variables.latent.detach().clone() if config.latent == "z" and start.w is not None else start.z
    shape, exp = variables.shape.detach().clone(), variables.exp.detach().clone()
    return RefineState(shape, exp, pose, camera, w, latent, noise)


def styles_of(start: RefineState, variables: Variables, config: RefineConfig, renderer: Renderer) -> Tensor:
    """Styles [B, num_styles, style_dim]."""
    assert start.w is not None
    if config.latent == "z":
        return renderer.generator.styles(variables.latent)
    return start.w + variables.latent


def noise_maps(start: RefineState, variables: Variables) -> list[Tensor]:
    """The noise as the renderer takes it; views of the variable."""
    assert start.noise is not None
    shapes = [noise.shape[1:] for noise in start.noise]
    parts = variables.noise.split([shape.numel() for shape in shapes], 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


class Problem:
    """The losses of B faces. Everything that stays the same from one iteration to the next is made here, once.

    Args:
        model: the face model, on the device of the target.
        renderer: networks; None leaves only the losses that need none. Their parameters should need no gradient.
        target: what the photographs say.
        start: where the descent starts.
        config: settings.
        impl: implementation of the operators.
    """

    def __init__(
        self,
        model: MorphableModel,
        renderer: Renderer | None,
        target: RefineTarget,
        start: RefineState,
        config: RefineConfig,
        impl: str = "auto",
    ) -> None:
        self.model, self.renderer, self.target, self.start, self.config = model, renderer, target, start, config
        self.impl = impl
        self.size = start.size
        if renderer is not None:
            check_renderer(renderer, self.size)
        self.adjacency = model.adjacency
        self.triangle_weights = face_triangles(model)
        self.train_part = squares(self.size, config.holdout, target.image)
        self.features: list[Tensor] | None = None
        if renderer is not None and renderer.perceptual is not None:
            with torch.no_grad():
                self.features = list(renderer.perceptual.features(target.image))
        weights = torch.where(target.landmarks.isnan().any(-1), 0, target.landmark_weights)
        self.landmark_weights = weights
        device = target.image.device
        self.blur = terms.tent(round(config.normal_blur * self.size / 128)).to(device)
        side = 2 * round(config.erode * self.size / 128) + 1
        self.erosion = torch.full((side,), 1 / side, device=device)

    def losses(self, variables: Variables, wanted: LossWeights) -> dict[str, Tensor]:
        """The losses [B] whose weights are positive and for which everything is at hand."""
        result: dict[str, Tensor] = {}
        camera, vertices = self.face(variables)
        target, config = self.target, self.config
        if wanted.landmark > 0:
            points = self.landmarks(vertices, camera)
            noise = config.landmark_noise * self.size if target.landmark_noise is None else target.landmark_noise
            result["landmark"] = terms.landmark_distance(points, target.landmarks, self.landmark_weights, noise)
        if wanted.prior > 0:
            result["prior"] = terms.coefficient_prior(variables.shape.expand(self.start.batch, -1), variables.exp)
        with_normals = wanted.normals > 0 and target.normals is not None
        renders = wanted.renders and self.renderer is not None
        if with_normals or renders:
            view, maps = self.raster(vertices, camera, renders)
            face = self.face_weights(view)
            if with_normals:
                weights = face * self.train_part
                normals = view.normals
                estimate = self.estimate(normals, weights)
                normals, estimate = (
                    terms.blurred_normals(n, weights, self.blur, self.impl) for n in (normals, estimate)
                )
                result["normals"] = terms.normal_disagreement(normals, estimate, weights, config.normal_cutoff)
            if renders:
                render = self.render(variables, maps)
                result |= self._appearance(render, face, wanted)
        if self.renderer is not None:
            if wanted.latent > 0:
                w = styles_of(self.start, variables, config, self.renderer)
                result["latent"] = terms.latent_prior(w, self.renderer.generator.mapping.mean_w)
            if wanted.noise > 0:
                result["noise"] = terms.noise_correlation(noise_maps(self.start, variables))
        return result

    def face(self, variables: Variables) -> tuple[Camera, Tensor]:
        """Camera, and vertices [B, V, 3] in camera space."""
        pose, camera = geometry_of(self.start, variables)
        vertices = self.model.evaluate(variables.shape, variables.exp)
        return camera, pose.apply(vertices)

    def landmarks(self, vertices: Tensor, camera: Camera) -> Tensor:
        """[B, 68, 2] aligned pixels of vertices [B, V, 3] in camera space."""
        points = self.model.landmarks(vertices)
        if self.target.contour_vertices is not None:
            points = with_contour(points, vertices, self.target.contour_vertices)
        return camera.project(points)

    def raster(self, vertices: Tensor, camera: Camera, renders: bool) -> tuple[RasterOutput, list[Tensor]]:
        """What the aligned picture shows of the mesh, and, if it ``renders``, the normal maps for the generator."""
        sizes = sample_sizes(self.renderer.generator) if renders and self.renderer is not None else [self.size]
        levels = rasterize_normals(
            vertices,
            self.model.triangles,
            camera.ndc(),
            sizes,
            projection=camera.projection,
            adjacency=self.adjacency,
            impl=self.impl,
        )
        return levels[sizes.index(self.size)], averaged_normals(levels)

    @torch.no_grad()
    def face_weights(self, output: RasterOutput) -> Tensor:
        """[B, 1, S, S] 0..1: pixels that show the face's own parts, away from its outline. Without gradient."""
        shown = self.triangle_weights[output.triangle_ids.clamp_min(0).long()]
        mask = torch.where(output.triangle_ids < 0, 0, shown)[:, None]
        if len(self.erosion) > 1:
            around = upfirdn2d(mask, self.erosion, padding=len(self.erosion) // 2, impl=self.impl)
            mask = torch.minimum(mask, (2 * around - 1).clamp_min(0))
        return mask if self.target.cover is None else mask * self.target.cover

    def estimate(self, normals: Tensor, weights: Tensor) -> Tensor:
        """The estimator's normals, without the tilt that they have as a whole against the mesh's."""
        assert self.target.normals is not None
        return terms.without_tilt(self.target.normals, normals.detach(), weights, self.config.normal_tilt)

    def render(self, variables: Variables, maps: list[Tensor]) -> Tensor:
        """G's picture [B, 3, S, S] of normal maps."""
        assert self.renderer is not None
        w = styles_of(self.start, variables, self.config, self.renderer)
        return self.renderer.generator(maps, w=w, noise=noise_maps(self.start, variables)).image

    def matched(self, render: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
        """The render in the photograph's colours, and the weights [B, 1, S, S] of the pixels that may be compared."""
        photo, config = self.target.image, self.config

        def match(weights: Tensor) -> Tensor:
            if config.colour_order < 0:
                return render
            matched = match_colours(render, photo, weights, order=config.colour_order, ridge=config.colour_ridge)
            return torch.lerp(render, matched, config.colour_strength)

        if config.occlusion > 0:
            face = face * terms.inlier_weights(match(face), photo, face, config.occlusion)
        return match(face), face

    def _appearance(self, render: Tensor, face: Tensor, wanted: LossWeights) -> dict[str, Tensor]:
        result = {}
        photo = self.target.image
        matched, weights = self.matched(render, face)
        weights = weights * self.train_part
        if wanted.photometric > 0:
            result["photometric"] = terms.charbonnier(matched, photo, weights)
        if wanted.perceptual > 0 and self.features is not None:
            assert self.renderer is not None
            assert self.renderer.perceptual is not None
            # Outside the face the photograph itself: hair and background are the same on both sides.
            composite = torch.lerp(photo, matched, weights)
            perceptual = self.renderer.perceptual
            result["perceptual"] = perceptual.compare(perceptual.features(composite), self.features)
        return result


def check_renderer(renderer: Renderer, size: int) -> None:
    """See that a renderer can be fitted.

    Raises:
        WeightsFileError: it is conditioned on something else than normal maps, or makes pictures of another size.
    """
    check_draws_normals(renderer.generator)
    config = renderer.generator.config
    if config.size != size:
        raise WeightsFileError(f"the renderer makes pictures of {config.size} pixels, but {size} were expected")
    if renderer.inverter is not None and renderer.inverter.config.size != config.size:
        raise WeightsFileError(
            f"the inverter takes pictures of {renderer.inverter.config.size} pixels, but the renderer makes "
            f"{config.size}: use weights that were trained together"
        )


def face_triangles(model: MorphableModel) -> Tensor:
    """[F] 1 for triangles of the face proper, falling to 0 toward scalp, ears, neck and the inside of the mouth."""
    away = torch.zeros(model.num_vertices, dtype=model.mean.dtype, device=model.device)
    for name in _LEFT_OUT:
        if name in model.regions:
            away = torch.maximum(away, model.regions[name])
    return (1 - away)[model.triangles.long()].amin(1)


def squares(size: int, share: float, like: Tensor) -> Tensor:
    """[1, 1, size, size]: 0 in a fixed random ``share`` of small squares, else 1."""
    generator = torch.Generator().manual_seed(0)
    cells = (torch.rand(1, 1, _SQUARES, _SQUARES, generator=generator) >= share).float()
    return functional.interpolate(cells, size=(size, size), mode="nearest").to(like)


@contextmanager
def frozen(renderer: Renderer | None) -> Iterator[None]:
    """No network's parameter needs a gradient inside; afterwards they are as before."""
    parameters = [] if renderer is None else _parameters(renderer)
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, needed in zip(parameters, before, strict=True):
            parameter.requires_grad_(needed)


def _parameters(renderer: Renderer) -> list[torch.nn.Parameter]:
    return [parameter for network in renderer.networks().values() for parameter in network.parameters()]
