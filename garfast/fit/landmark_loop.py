"""The outer loop of the landmark fit: contour points, robust weights and noise, between Levenberg-Marquardt steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from garfast.errors import LandmarkError
from garfast.fit.landmark_config import LandmarkFitConfig
from garfast.fit.landmark_geometry import NUM_CONTOUR, NUM_LANDMARKS, Contour, LandmarkGeometry
from garfast.fit.landmark_pose import initial_states
from garfast.fit.landmark_solver import Problem, State, determined, project, step
from garfast.fit.rows import Rows

BROWS = slice(17, 27)

# Median of the length of a 2D error with standard deviation 1 in each coordinate (Rayleigh).
RAYLEIGH_MEDIAN = math.sqrt(2 * math.log(2))

# Outer iterations in which all starting poses are followed, with the noise held at its upper bound.
SCOUTING = 4


@dataclass(frozen=True)
class FaceFrame(Rows):
    """Landmarks of B faces in face units (see ``landmark_solver``), and how to come back to pixels.

    Attributes:
        target: [B, 68, 2] y up, 0 where missing. weights: [B, 68]. centre: [B, 2] pixels. size: [B] pixels.
        log_focal: [B] expected, in face units. perspective: shared.
    """

    target: Tensor
    weights: Tensor
    centre: Tensor
    size: Tensor
    log_focal: Tensor
    perspective: bool

    SHARED = ("perspective",)

    @staticmethod
    def of(
        points: Tensor,
        weights: Tensor,
        image_size: tuple[int, int],
        projection: str,
        config: LandmarkFitConfig,
        first: int = 0,
    ) -> FaceFrame:
        """From landmarks [B, 68, 2] in pixels, where weights [B, 68] are positive; ``first`` is the first one's number
        in messages."""
        known = weights[..., None] > 0
        low = torch.where(known, points, torch.inf).amin(1)
        high = torch.where(known, points, -torch.inf).amax(1)
        extent = high - low
        # No head looks like a line or a dot from anywhere, and it would have no size.
        flat = extent.amin(1) <= 0.05 * extent.amax(1)
        if bool(flat.any()):
            face = first + int(flat.nonzero()[0])
            raise LandmarkError(f"the landmarks of face {face} lie on a line or in one place: give (x, y) pixels")
        height, width = image_size
        perspective = projection == "pinhole"
        if perspective:
            centre = points.new_tensor(config.principal_point or (width / 2, height / 2)).expand(points.shape[0], 2)
        else:
            centre = (low + high) / 2
        size = extent.prod(1).sqrt()
        focal = config.focal if config.focal is not None else config.focal_prior * max(height, width)
        target = torch.where(known, points - centre[:, None], 0) / size[:, None, None]
        return FaceFrame(
            target=target * target.new_tensor([1.0, -1.0]),
            weights=weights,
            centre=centre,
            size=size,
            log_focal=math.log(focal) - size.log(),
            perspective=perspective,
        )


@dataclass(frozen=True)
class Track(Rows):
    """How far B fits have come.

    Attributes:
        state: the unknowns. damping: [B]. noise: [B] face sizes. contour: where the outline is.
        weights: [B, 68] final weights. projected: [B, 68, 2] face units. settled: [B] bool. iterations: [B] int64.
    """

    state: State
    damping: Tensor
    noise: Tensor
    contour: Contour
    weights: Tensor
    projected: Tensor
    settled: Tensor
    iterations: Tensor

    @staticmethod
    def start(geometry: LandmarkGeometry, state: State, noise: float) -> Track:
        batch, new = state.log_scale.shape[0], geometry.mean.new_zeros
        return Track(
            state=state,
            damping=new(batch) + 1e-3,
            noise=new(batch) + noise,
            contour=geometry.own_contour(batch),
            weights=new(batch, NUM_LANDMARKS),
            projected=new(batch, NUM_LANDMARKS, 2),
            settled=new(batch).bool(),
            iterations=new(batch).long(),
        )

    @staticmethod
    def empty(geometry: LandmarkGeometry, faces: FaceFrame) -> Track:
        """Tracks to be filled in, one for each face."""
        batch, new = faces.size.shape[0], geometry.mean.new_zeros
        state = State(new(batch, 3, 3), new(batch), new(batch, 2), new(batch), new(batch, geometry.num_coefficients))
        return Track.start(geometry, state, 0.0)


def solve(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig) -> Track:
    """Fit all faces, from a first pose to the end."""
    batch = faces.size.shape[0]
    contour = geometry.own_contour(batch)
    plain = _problem(geometry, faces, config, contour, faces.target.new_zeros(batch, NUM_LANDMARKS, 2, 2))
    states = initial_states(plain, faces.weights, config.starts)
    track = _scout(geometry, faces, config, states)
    for iteration in range(config.max_iterations):
        rows = (~track.settled).nonzero()[:, 0]
        if not len(rows):
            break
        slide = iteration < config.contour_iterations
        moved = _iterate(geometry, faces[rows], config, track[rows], slide=slide, adapt=True)
        track = track.put(rows, moved)
    return track


def _scout(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, states: State) -> Track:
    """Follow ``starts`` poses of each face for a few iterations and keep the better one."""
    batch = faces.size.shape[0]
    rows = torch.arange(batch, device=faces.size.device).repeat_interleave(config.starts)
    several = faces[rows]
    track = Track.start(geometry, states, config.noise_max)
    for _ in range(SCOUTING):
        track = _iterate(geometry, several, config, track, slide=True, adapt=False)
    trust = _trust(geometry, several, config, track.state.rotation)
    problem = _problem(geometry, several, config, track.contour, trust)
    squared = _missed(problem, track.projected) / config.noise_max**2
    prior = (problem.precision * track.state.coefficients.square()).sum(1)
    value = (squared / (1 + squared / config.robust_cutoff**2)).sum(1) + prior
    value = torch.where(track.state.rotation[:, 2, 2] < 0, torch.inf, value)
    best = value.view(batch, -1).argmin(1) + config.starts * torch.arange(batch, device=rows.device)
    track = track[best]
    return replace(track, settled=torch.zeros_like(track.settled), iterations=torch.zeros_like(track.iterations))


def _iterate(
    geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, track: Track, *, slide: bool, adapt: bool
) -> Track:
    """One outer iteration: re-choose contour points, re-weight, a few steps, re-estimate the noise."""
    state = track.state
    contour = track.contour
    if slide and config.contour == "sliding":
        facing = math.sin(math.radians(config.contour_facing_degrees))
        seen = (faces.target[:, :NUM_CONTOUR] - state.offset[:, None]) / state.log_scale.exp()[:, None, None]
        contour = geometry.choose_contour(state.coefficients, state.rotation, facing, seen)
    trust = _trust(geometry, faces, config, state.rotation)
    problem = _problem(geometry, faces, config, contour, trust)
    before = project(problem, state)
    robust = _robust(problem, before, track.noise, config)
    problem = _weighted(problem, robust, track.noise)

    damping = track.damping
    for _ in range(config.inner_steps):
        last = damping
        state, damping, system = step(problem, state, damping)
    after = project(problem, state)
    travelled = (after - before).norm(dim=-1).amax(1)
    settled = (travelled < config.tolerance) & (damping <= last)
    noise = track.noise
    if adapt:
        noise = _noise(replace(problem, whitening=trust), after, determined(problem, system), faces.weights, config)
        # Falling too fast would let go of a landmark before its neighbours had a chance to bring the face there.
        noise = torch.maximum(noise, 0.5 * track.noise)
        settled &= (noise / track.noise - 1).abs() < 0.02
        noise = torch.where(settled, track.noise, noise)
    return Track(
        state=state,
        damping=damping,
        noise=noise,
        contour=contour,
        weights=robust * _base_weights(faces, config),
        projected=after,
        settled=settled,
        iterations=track.iterations + 1,
    )


def final_problem(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, track: Track) -> Problem:
    """The least-squares problem that the fits of a track stand at, with its contour points, weights and noise."""
    problem = _problem(geometry, faces, config, track.contour, _trust(geometry, faces, config, track.state.rotation))
    robust = _robust(problem, project(problem, track.state), track.noise, config)
    return _weighted(problem, robust, track.noise)


def _robust(problem: Problem, projected: Tensor, noise: Tensor, config: LandmarkFitConfig) -> Tensor:
    """[B, 68] Geman-McClure weights."""
    return 1 / (1 + _missed(problem, projected) / (config.robust_cutoff * noise[:, None]).square()).square()


def _weighted(problem: Problem, robust: Tensor, noise: Tensor) -> Problem:
    strength = robust.sqrt() / noise[:, None]
    return replace(problem, whitening=problem.whitening * strength[..., None, None])


def _base_weights(faces: FaceFrame, config: LandmarkFitConfig) -> Tensor:
    group = torch.ones_like(faces.weights)
    group[:, :NUM_CONTOUR] = config.contour_weight
    group[:, BROWS] = config.brow_weight
    return faces.weights * group


def _trust(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, rotation: Tensor) -> Tensor:
    """Square roots of the weights as 2x2 matrices [B, 68, 2, 2]; sliding landmarks are split along their outline."""
    root = _base_weights(faces, config).sqrt()[..., None, None]
    trust = root * torch.eye(2, dtype=root.dtype, device=root.device)
    if config.contour == "sliding":
        normal = geometry.contour_normals(rotation)
        tangent = torch.stack([-normal[..., 1], normal[..., 0]], -1) * math.sqrt(config.contour_tangent_weight)
        trust = torch.cat([torch.stack([normal, tangent], -2) * root[:, :NUM_CONTOUR], trust[:, NUM_CONTOUR:]], 1)
    return trust


def _problem(
    geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, contour: Contour, whitening: Tensor
) -> Problem:
    mean, basis = geometry.select(contour)
    precision = geometry.mean.new_full((geometry.num_coefficients,), config.exp_prior)
    precision[: geometry.num_shape] = config.shape_prior
    estimated = faces.perspective and config.focal is None and config.focal_spread > 0
    return Problem(
        mean=mean,
        basis=basis,
        target=faces.target,
        whitening=whitening,
        lower=geometry.lower,
        upper=geometry.upper,
        precision=precision,
        focal_precision=1 / config.focal_spread**2 if estimated else None,
        focal_centre=faces.log_focal,
        perspective=faces.perspective,
    )


def _missed(problem: Problem, projected: Tensor) -> Tensor:
    """[B, 68] squared residuals as the problem's whitening sees them."""
    return (problem.whitening @ (projected - problem.target)[..., None]).square().sum((-2, -1))


def _noise(problem: Problem, projected: Tensor, fitted: Tensor, weights: Tensor, config: LandmarkFitConfig) -> Tensor:
    """[B] standard deviation of a landmark's coordinate, from the median residual.

    A median ignores wrong landmarks. It is corrected for the ``fitted`` [B] numbers that were taken out of the same
    landmarks (MacKay's effective number of parameters): a face that bends to every landmark has small residuals
    whatever the noise.
    """
    seen = weights > 0
    median = torch.where(seen, _missed(problem, projected).sqrt(), torch.nan).nanmedian(1).values
    total = 2.0 * seen.sum(1)
    spare = torch.maximum(total - fitted, 0.25 * total)
    return (median / RAYLEIGH_MEDIAN * (total / spare).sqrt()).clamp(config.noise_min, config.noise_max)
