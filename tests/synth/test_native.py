"""The kernels that compute something by themselves, against numpy; and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.ndimage import gaussian_filter

from garfast.synth.native import (
    Development,
    blend,
    blur,
    depth_map,
    develop,
    kernels,
    simplify_mesh,
    vertex_attributes,
)
from garfast.synth.noise import noise_bank, noise_corners
from garfast.synth.solids import tube

SIZE = (6, 11)
LEVELS = 33


def developed(light: np.ndarray, how: Development) -> np.ndarray:
    """What ``develop`` computes, in float64."""
    height, width = light.shape[:2]
    y = ((2 * np.arange(height) + 1) / height - 1 - how.centre[1])[:, None]
    x = ((2 * np.arange(width) + 1) / width - 1 - how.centre[0])[None]
    arriving = np.maximum(1 - how.falloff * (x**2 + y**2), 0.2)[..., None]
    arrived = light * how.gain * arriving + how.stray
    at = how.reach * np.linspace(0, 1, len(how.curve)) ** 2
    values = np.interp(np.sqrt(np.maximum(arrived, 0)), np.sqrt(at), how.curve)
    gray = values @ [0.3, 0.59, 0.11]
    values = values + (gray[..., None] - values) * how.gray
    if how.noise is not None:
        values = values + how.own_noise * how.noise + how.shared_noise * how.noise[..., :1]
    return values


@pytest.mark.parametrize("faults", ["none", "all"])
def test_develop_agrees_with_numpy(faults):
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 2.5, (*SIZE, 3)).astype(np.float32)
    curve = np.sort(rng.uniform(0, 255, LEVELS)).astype(np.float32)
    how = Development(np.array([0.8, 1.0, 1.2], np.float32), curve, 2.0)
    if faults == "all":
        noise = rng.standard_normal((*SIZE, 3)).astype(np.float32)
        how = how._replace(noise=noise, own_noise=3.0, shared_noise=9.0, falloff=0.3, centre=(0.1, -0.2), stray=0.05)
        how = how._replace(gray=0.4)
    expected = np.clip(developed(light, how) + 0.5, 0, 255)
    # Values just beside a whole number may fall to either side.
    assert np.abs(develop(light, how) - np.floor(expected)).max() <= 1
    assert (develop(light, how) == np.floor(expected)).mean() > 0.98


def test_corners_of_the_noise_are_its_values():
    value, corners = noise_bank()[:, :, :64, 0], noise_corners()
    x, y, z = np.random.default_rng(1).integers(64, size=(3, 200))
    for k, (dy, dz) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        np.testing.assert_array_equal(corners[x, y, z, k], value[x, (y + dy) % 64, (z + dz) % 64])


def test_depth_map_shows_what_is_in_front():
    # Two walls, x - y planes at z = 1 and z = 1 + x / 4: the second is in front where x > 0.
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    square[:, 2] = 1
    slanted = square.copy()
    slanted[:, 2] += square[:, 0] / 4
    positions = np.concatenate([square, slanted])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    camera = np.array([0.5, 0.5, 0, 0], np.float32)  # the walls take the middle half of the map
    size = 32
    front = depth_map(positions, triangles, camera, size)
    place = (np.arange(size) + 0.5) / size * 4 - 2
    inside = np.abs(place) < 1
    expected = np.where(inside[:, None] & inside, np.maximum(1, 1 + place / 4)[None], -np.inf)
    np.testing.assert_allclose(front, expected, atol=1e-6)
    behind = depth_map(positions - np.float32([0, 0, 3]), triangles, camera, size, into=front.copy())
    np.testing.assert_array_equal(behind, front)
    assert np.isinf(depth_map(positions, triangles[:, ::-1].copy(), camera, size, cull=True)).all()


def test_arrays_of_another_kind_are_refused():
    how = Development(np.ones(3, np.float32), np.zeros(LEVELS, np.float32), 1.0)
    light = np.zeros((*SIZE, 3), np.float32)
    for wrong in (light.astype(np.float64), light[:, ::2]):
        with pytest.raises(TypeError):
            develop(wrong, how)
    frozen = np.zeros((4, 4, 3), np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(TypeError):
        kernels().synth_develop(
            np.zeros((4, 4, 3), np.float32), how.gain, how.curve, None, frozen, 1.0, *(0.0,) * 7, 4, 4, LEVELS
        )


def test_blended_faces_do_not_depend_on_one_another():
    rng = np.random.default_rng(5)
    vertices, modes, faces = 700, 19, 6
    mean, step = rng.standard_normal((vertices, 3), np.float32), rng.uniform(1e-4, 1e-3, modes).astype(np.float32)
    basis = rng.integers(-32767, 32768, (modes, vertices, 3), np.int16)
    weights = rng.standard_normal((faces, modes), np.float32)
    weights[:, 8:16], weights[2] = 0, 0
    out = np.full((faces, vertices, 3), np.nan, np.float32)
    blend(mean, basis, step, weights, slice(100, 600), out)
    expected = mean + np.einsum("fk,kvc->fvc", (weights * step).astype(np.float64), basis)
    np.testing.assert_allclose(out[:, 100:600], expected[:, 100:600], atol=1e-4)
    assert np.isnan(out[:, :100]).all()
    assert np.isnan(out[:, 600:]).all()
    for face in range(faces):
        alone = np.full((1, vertices, 3), np.nan, np.float32)
        blend(mean, basis, step, weights[face : face + 1], slice(100, 600), alone)
        np.testing.assert_array_equal(alone[0], out[face])


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(4, radius=100.0)
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


def test_a_simplified_ball_is_closed_and_near_the_ball(ball):
    points, triangles = ball
    fixed = np.arange(len(points)) % 100 == 0
    nothing = np.zeros((len(points), 0), np.float32)
    left, rows = simplify_mesh([points, points * [1, 2, 1]], nothing, triangles, fixed, 2.0, 60.0)
    assert len(left) < len(triangles) / 2
    assert len(rows) == len(left)
    simple = trimesh.Trimesh(points, left)
    assert simple.is_watertight
    assert simple.is_winding_consistent
    assert simple.euler_number == 2
    assert np.isin(np.flatnonzero(fixed), left).all()
    assert simple.edges_unique_length.max() <= 60
    middles = simple.triangles.mean(1)
    assert np.linalg.norm(middles, axis=1).min() > 97
    again, _ = simplify_mesh([points, points * [1, 2, 1]], nothing, triangles, fixed, 2.0, 60.0)
    np.testing.assert_array_equal(again, left)


def test_simplifying_keeps_what_is_painted_and_what_moves(ball):
    points, triangles = ball
    nothing, free = np.zeros((len(points), 0), np.float32), np.zeros(len(points), bool)
    stripe = 5 * (np.abs(points[:, 1:2]) < 20).astype(np.float32)
    bulge = points * (1 + 0.1 * np.exp(-((points[:, 2:] - 100) ** 2) / 900)).astype(np.float32)
    plain, painted, bent = (
        simplify_mesh(poses, paint, triangles, free, 2.0, 60.0)[0]
        for poses, paint in (([points], nothing), ([points], stripe), ([points, bulge], nothing))
    )
    assert len(painted) > 1.1 * len(plain)
    assert len(bent) > len(plain)
    # Nothing to gain: a tolerance of 0 keeps a curved surface as it is.
    np.testing.assert_array_equal(simplify_mesh([points], nothing, triangles, free, 0.0, 60.0)[0], triangles)


@pytest.mark.parametrize("sharpen", [0.0, 1.2])
@pytest.mark.parametrize("sigma", [0.4, 1.7, 6.0])
def test_blur_is_a_gaussian_that_ends_at_three_deviations(sigma, sharpen):
    picture = np.random.default_rng(4).integers(0, 256, (13, 9, 3)).astype(np.uint8)  # smaller than the widest kernel
    radius = int(np.ceil(3 * sigma))
    blurred = gaussian_filter(picture.astype(float), sigma, axes=(0, 1), radius=radius, mode="nearest")
    expected = picture + sharpen * (picture - blurred) if sharpen else blurred
    assert np.abs(blur(picture, sigma, sharpen) - np.clip(expected, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("closed", [False, True])
def test_a_tube_surrounds_its_path(closed):
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    path = np.stack([50 * np.cos(turn), 50 * np.sin(turn), 5 * np.sin(2 * turn)], 1)
    made = tube(path, 3.0, np.ones(3), sides=8, closed=closed)
    middles = np.concatenate([path, path[:1]]) if closed else path
    offset = made.positions.reshape(len(middles), 8, 3) - middles[:, None]
    np.testing.assert_allclose(np.linalg.norm(offset, axis=-1), 3, atol=1e-4)
    np.testing.assert_allclose(made.normals.reshape(offset.shape), offset / 3, atol=1e-5)
    ahead = np.gradient(middles, axis=0)[1:-1]
    assert np.abs((offset[1:-1] * ahead[:, None]).sum(-1)).max() < 1e-3
    assert made.triangles.max() == len(made.positions) - 1


def test_attributes_lie_on_lines_of_the_cache():
    rows = [vertex_attributes(count) for count in (1, 7, 1000)]
    assert all(row.ctypes.data % 64 == 0 and row.flags.c_contiguous and row.flags.writeable for row in rows)
