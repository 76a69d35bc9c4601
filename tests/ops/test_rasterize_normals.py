"""rasterize_normals: every backend against the equations, and the operator contract."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from garfast.errors import ArgumentError, BackendUnavailableError, SecondDerivativeError
from garfast.ops import RasterOutput, VertexAdjacency, interpolate, rasterize_normals, vertex_normals
from tests.ops.conftest import grid_mesh

FULL_VIEW = torch.tensor([1.0, 1.0, 0.0, 0.0])
PROJECTIONS = ["orthographic", "pinhole"]


def camera_for(projection: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A camera that sees a mesh within [-1, 1]^3, and how to move the mesh in front of it."""
    if projection == "orthographic":
        return torch.tensor([0.8, 0.7, 0.05, -0.1], dtype=dtype), torch.zeros(3, dtype=dtype)
    return torch.tensor([2.4, 2.1, 0.05, -0.1], dtype=dtype), torch.tensor([0.0, 0.0, -3.0], dtype=dtype)


def same_pictures(actual: RasterOutput, expected: RasterOutput, normals: float = 1e-6, exact: bool = True) -> None:
    """Ids equal; barycentrics and depth too, or nearly; normals to a few roundings."""
    assert torch.equal(actual.triangle_ids.cpu(), expected.triangle_ids)
    assert torch.equal(actual.mask.cpu(), expected.mask)
    near = 0.0 if exact else normals
    torch.testing.assert_close(actual.barycentrics.cpu(), expected.barycentrics, rtol=0, atol=near)
    torch.testing.assert_close(actual.depth.cpu(), expected.depth, rtol=near, atol=near)
    torch.testing.assert_close(actual.normals.cpu(), expected.normals, rtol=0, atol=normals)


def soup(
    seed: int, batch: int = 2, count: int = 20, faces: int = 40, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Random triangles, inside, outside and across [-1, 1]^3, with random unit normals."""
    generator = torch.Generator().manual_seed(seed)
    vertices = 1.5 * torch.randn(batch, count, 3, generator=generator, dtype=torch.float64).clamp(-2, 2)
    vertices[..., 2] *= 0.4
    normals = torch.randn(batch, count, 3, generator=generator, dtype=torch.float64)
    triangles = torch.randint(count, (faces, 3), generator=generator, dtype=torch.int32)
    return vertices.to(dtype), triangles, torch.nn.functional.normalize(normals, dim=-1).to(dtype)


def ico_sphere(rings: int = 12, sectors: int = 24, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """A unit sphere of latitude rings, closed, turned a little so that nothing lies on a pixel centre."""
    theta = torch.linspace(0, math.pi, rings + 1, dtype=dtype)[1:-1, None]
    phi = torch.arange(sectors, dtype=dtype)[None] * (2 * math.pi / sectors) + 0.1
    ring = torch.stack([theta.sin() * phi.cos(), theta.cos() + 0 * phi, theta.sin() * phi.sin()], -1).reshape(-1, 3)
    vertices = torch.cat([ring, torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=dtype)])
    faces = []
    for s in range(sectors):
        after = (s + 1) % sectors
        faces += [(len(ring), after, s), (len(ring) + 1, len(ring) - sectors + s, len(ring) - sectors + after)]
        for r in range(rings - 2):
            a, b, c, d = r * sectors + s, r * sectors + after, (r + 1) * sectors + after, (r + 1) * sectors + s
            faces += [(a, b, c), (a, c, d)]
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.1, 0.2], [0.1, 0, -0.3], [-0.2, 0.3, 0]], dtype=dtype))
    return vertices @ turn.T, torch.tensor(faces, dtype=torch.int32)


def test_one_triangle_by_hand(impl, device):
    # Pixel centres at +-0.25, +-0.75 in x; the hypotenuse from (1, -1) to (-1, 1) passes through centres.
    vertices = torch.tensor([[[-1.0, -1, 5], [1, -1, 5], [-1, 1, 5]]], device=device)
    triangles = torch.tensor([[0, 1, 2]], device=device)
    out = rasterize_normals(vertices, triangles, FULL_VIEW.to(device), 4, impl=impl)
    # The hypotenuse is a right edge: its centres do not belong to the triangle.
    expected = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
    assert torch.equal(out.mask[0, 0].cpu(), expected)
    assert torch.equal(out.triangle_ids[0].cpu(), expected.int() - 1)
    assert torch.equal(out.normals[0, 2].cpu(), expected)
    assert torch.equal(out.depth[0, 0].cpu(), -5 * expected)
    torch.testing.assert_close(out.barycentrics[0, :, 3, 0].cpu(), torch.tensor([0.75, 0.125, 0.125]))


def test_shapes_and_dtypes(impl, device):
    vertices, triangles = grid_mesh(5, 4)
    batch = torch.stack([vertices, -vertices, vertices * 0.5]).to(device)
    outputs = rasterize_normals(batch, triangles.to(device), FULL_VIEW.to(device), [7, (3, 5)], impl=impl)
    assert [out.mask.shape for out in outputs] == [(3, 1, 7, 7), (3, 1, 3, 5)]
    for out, (height, width) in zip(outputs, [(7, 7), (3, 5)], strict=True):
        assert out.normals.shape == out.barycentrics.shape == (3, 3, height, width)
        assert out.depth.shape == (3, 1, height, width)
        assert out.triangle_ids.shape == (3, height, width)
        assert out.triangle_ids.dtype == torch.int32
    single = rasterize_normals(batch, triangles.to(device), FULL_VIEW.to(device), (3, 5), impl=impl)
    assert isinstance(single, RasterOutput)
    assert torch.equal(single.normals, outputs[1].normals)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("cull", [True, False])
def test_matches_the_reference(impl, device, projection, cull):
    camera, move = camera_for(projection)
    vertices, triangles, normals = soup(3)
    vertices = vertices + move
    arguments = {"projection": projection, "cull_backfaces": cull}
    sizes = [1, 2, (5, 9), 16, (33, 20), 64]
    expected = rasterize_normals(vertices, triangles, camera, sizes, normals=normals, impl="reference", **arguments)
    tensors = [tensor.to(device) for tensor in (vertices, triangles, camera)]
    actual = rasterize_normals(*tensors, sizes, normals=normals.to(device), impl=impl, **arguments)
    assert expected[-1].mask.mean() > 0.3
    for a, e in zip(actual, expected, strict=True):
        same_pictures(a, e, 2e-6)


@pytest.fixture(scope="module", params=PROJECTIONS)
def face(request: pytest.FixtureRequest, ict_path: Path) -> tuple[dict[str, Any], list[RasterOutput]]:
    """Arguments that render a face of 15,000 triangles as a pyramid, and what the reference sees."""
    data = np.load(ict_path)
    camera, move = camera_for(request.param)
    arguments = {
        "vertices": torch.from_numpy(data["vertices"])[None] / 10 + move,
        "triangles": torch.from_numpy(data["triangles"]),
        "camera": camera,
        "resolutions": [4, 8, 16, 32, 64, 128, 256],
        "projection": request.param,
    }
    return arguments, rasterize_normals(**arguments, impl="reference")


def test_every_instruction_set_sees_the_same_face(isa, face):
    arguments, expected = face
    for actual, level in zip(rasterize_normals(**arguments, impl="cpu"), expected, strict=True):
        same_pictures(actual, level)


def test_neighbours_leave_no_hole_and_share_no_pixel(impl, device):
    # Vertices on pixel centres and edges through them, the worst case; each triangle alone, then the counts added up.
    vertices, triangles = grid_mesh(9, 9)
    vertices[:, 2] = 0
    vertices = (vertices * 8).round() / 8 * 15 / 16
    mesh, faces = vertices[None].to(device), triangles.to(device)
    total = torch.zeros(1, 1, 32, 32)
    for face in range(len(triangles)):
        out = rasterize_normals(mesh, faces[face : face + 1], FULL_VIEW.to(device), 32, impl=impl)
        total += out.mask.cpu()
    # Half open: of the square's outline the top and left centres count, the bottom and right ones do not.
    expected = torch.zeros(32, 32)
    expected[1:31, 1:31] = 1
    whole = rasterize_normals(mesh, faces, FULL_VIEW.to(device), 32, impl=impl).mask[0, 0].cpu()
    assert torch.equal(total[0, 0], whole)
    assert whole.max() == 1
    assert torch.equal(whole[2:30, 2:30], expected[2:30, 2:30])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_equally_near_triangles_the_lower_index_wins(impl, device, order):
    vertices = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]]], device=device).repeat(1, 2, 1)
    triangles = torch.tensor([[0, 1, 2], [3, 4, 5]], device=device)[list(order)]
    out = rasterize_normals(vertices, triangles, FULL_VIEW.to(device), 16, impl=impl)
    assert set(out.triangle_ids.unique().tolist()) == {-1, 0}


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_the_nearer_triangle_is_seen(impl, device, projection):
    camera, move = camera_for(projection)
    near = torch.tensor([[-0.5, -0.5, 0.5], [0.5, -0.5, 0.5], [0, 0.5, 0.5]])
    vertices = torch.cat([near - torch.tensor([0.0, 0, 1]), near])[None] + move
    triangles = torch.tensor([[0, 1, 2], [3, 4, 5]], device=device)
    out = rasterize_normals(vertices.to(device), triangles, camera.to(device), 16, projection=projection, impl=impl)
    inside = out.triangle_ids[0, 8, 8]
    assert inside == 1
    torch.testing.assert_close(out.depth[0, 0, 8, 8].cpu(), -near[0, 2] - move[2])


def test_back_faces_are_culled_or_seen(impl, device):
    vertices = torch.tensor([[[-1.0, -1, 0], [0, 1, 0], [1, -1, 0]]], device=device)
    triangles = torch.tensor([[0, 1, 2]], device=device)
    assert rasterize_normals(vertices, triangles, FULL_VIEW.to(device), 8, impl=impl).mask.sum() == 0
    both = rasterize_normals(vertices, triangles, FULL_VIEW.to(device), 8, impl=impl, cull_backfaces=False)
    front = rasterize_normals(vertices, triangles.flip(1), FULL_VIEW.to(device), 8, impl=impl)
    assert torch.equal(both.mask, front.mask)
    assert torch.equal(both.barycentrics, front.barycentrics.flip(1))
    assert both.normals[0, 2].min() == -1


def test_pinhole_barycentrics_are_perspective_correct(impl, device):
    # A floor that runs away from the camera: the point that a pixel shows must project back to the pixel's centre.
    vertices = torch.tensor([[[-2.0, -1, -2], [2, -1, -2], [0, -1, -40]]], device=device)
    triangles = torch.tensor([[0, 1, 2]], device=device)
    camera = torch.tensor([1.0, 1.0, 0.0, 0.0], device=device)
    out = rasterize_normals(vertices, triangles, camera, 32, projection="pinhole", impl=impl)
    point = interpolate(vertices, triangles, out)[0]
    row, column = torch.nonzero(out.mask[0, 0], as_tuple=True)
    x, y, z = point[:, row, column]
    torch.testing.assert_close((x / -z + 1) * 16, column + 0.5, rtol=0, atol=1e-4)
    torch.testing.assert_close((1 - y / -z) * 16, row + 0.5, rtol=0, atol=1e-4)
    torch.testing.assert_close(out.depth[0, 0, row, column], -z)
    assert len(row) > 50


def test_triangles_across_the_near_plane_are_left_out(impl, device):
    vertices = torch.tensor([[[-1.0, -1, -2], [1, -1, -2], [0, 1, 0.5], [0, 1, -2]]], device=device)
    camera = FULL_VIEW.to(device)
    crossing, whole = torch.tensor([[0, 1, 2]], device=device), torch.tensor([[0, 1, 3]], device=device)
    assert rasterize_normals(vertices, crossing, camera, 8, projection="pinhole", impl=impl).mask.sum() == 0
    assert rasterize_normals(vertices, whole, camera, 8, projection="pinhole", impl=impl).mask.sum() > 0
    assert rasterize_normals(vertices, whole, camera, 8, projection="pinhole", near=2.5, impl=impl).mask.sum() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_bad_vertices_lose_their_triangles_only(impl, device, bad, projection):
    camera, move = camera_for(projection)
    vertices, triangles = grid_mesh(6, 6)
    vertices = vertices + move
    broken = vertices.clone()
    for coordinate, vertex in enumerate((7, 14, 22)):
        broken[vertex, coordinate] = bad
    affected = torch.isin(triangles.long(), torch.tensor([7, 14, 22])).any(1)
    normals = torch.tensor([0.0, 0, 1]).expand(1, 36, 3)
    leaf = broken[None].to(device).requires_grad_()
    camera_leaf = camera.to(device).requires_grad_()
    out = rasterize_normals(
        leaf, triangles.to(device), camera_leaf, 20, projection=projection, normals=normals.to(device), impl=impl
    )
    # Triangles keep their index: the broken ones are collapsed instead of removed.
    collapsed = torch.where(affected[:, None], triangles[:, :1], triangles)
    expected = rasterize_normals(
        vertices[None], collapsed, camera, 20, projection=projection, normals=normals, impl="reference"
    )
    same_pictures(out, expected)
    (out.normals.sum() + out.depth.sum() + out.barycentrics[:, 0].sum()).backward()
    assert leaf.grad.isfinite().all()
    assert camera_leaf.grad.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("antialias", [False, True])
def test_bad_vertices_spoil_no_normals_of_other_triangles(impl, device, bad, antialias):
    vertices, triangles = grid_mesh(6, 6)
    broken = vertices.clone()
    broken[14, 2] = bad
    leaf = broken[None].to(device).requires_grad_()
    out = rasterize_normals(leaf, triangles.to(device), FULL_VIEW.to(device), 20, antialias=antialias, impl=impl)
    assert int((out.mask > 0).sum()) > 200
    for image in (out.normals, out.mask, out.depth):
        assert image.isfinite().all()
    loss = out.depth.sum() if impl == "reference" else out.depth.sum() + out.normals.sum() + out.mask.sum()
    loss.backward()
    assert leaf.grad.isfinite().all()


def test_degenerate_and_one_pixel_triangles(impl, device):
    points = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0], [1, 1, 0], [0.06, 0.06, 0], [0.07, 0.06, 0], [0.06, 0.07, 0]])
    triangles = torch.tensor([[0, 1, 2], [0, 0, 1], [1, 1, 1], [3, 4, 5]], device=device)
    camera = FULL_VIEW.to(device)
    out = rasterize_normals(points[None].to(device), triangles, camera, 32, cull_backfaces=False, impl=impl)
    # The centre of pixel (15, 16) is at (0.03125, 0.03125): the small triangle at 0.06 misses it.
    assert out.mask.sum() == 0
    out = rasterize_normals(points[None].to(device) - 0.03, triangles, camera, 32, cull_backfaces=False, impl=impl)
    assert torch.nonzero(out.triangle_ids[0] == 3).tolist() == [[15, 16]]


@pytest.mark.parametrize(("batch", "count", "faces"), [(0, 4, 2), (2, 0, 0), (2, 4, 0), (0, 0, 0)])
def test_empty(impl, device, batch, count, faces):
    vertices = torch.rand(batch, count, 3, device=device, requires_grad=True)
    triangles = torch.tensor([[0, 1, 2], [1, 2, 3]], device=device)[:faces]
    outputs = rasterize_normals(vertices, triangles, FULL_VIEW.to(device), [4, (3, 2)], impl=impl)
    for out, (height, width) in zip(outputs, [(4, 4), (3, 2)], strict=True):
        assert out.normals.shape == (batch, 3, height, width)
        assert not out.mask.any()
        assert (out.triangle_ids == -1).all()
        assert interpolate(vertices, triangles, out).shape == (batch, 3, height, width)
    sum(out.normals.sum() + out.depth.sum() for out in outputs).backward()
    assert vertices.grad.shape == vertices.shape


def test_every_output_pixel_is_written(impl, device, monkeypatch):
    plain = torch.Tensor.new_empty

    def poisoned(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        fresh = plain(self, *args, **kwargs)
        return fresh.fill_(math.nan) if fresh.is_floating_point() else fresh.fill_(-(2**31))

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    vertices, triangles, _ = soup(5)
    leaf = vertices.to(device).requires_grad_()
    for out in rasterize_normals(leaf, triangles.to(device), FULL_VIEW.to(device), [5, (17, 33)], impl=impl):
        for image in out:
            assert image.isfinite().all()
        assert out.triangle_ids.min() >= -1
        (out.normals.sum() + out.depth.sum()).backward(retain_graph=True)
    assert leaf.grad.isfinite().all()


def weighted_sum(outputs: list[RasterOutput], seed: int = 0) -> Tensor:
    """A loss with a different weight on every number."""
    generator = torch.Generator().manual_seed(seed)
    total = outputs[0].normals.new_zeros(())
    for out in outputs:
        for image in (out.normals, out.barycentrics, out.depth):
            weights = torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)
            total = total + (image * weights).sum()
    return total


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_gradient_against_finite_differences(impl, device, projection):
    if impl == "cuda":
        pytest.skip("the CUDA kernel computes in float32; it is compared with the reference")
    camera, move = camera_for(projection, torch.float64)
    vertices, triangles = grid_mesh(4, 3, dtype=torch.float64)
    vertices = torch.stack([vertices, 0.7 * vertices]) + move
    normals = vertex_normals(vertices, triangles, impl="reference") * 1.3 + 0.1
    leaves = [leaf.clone().requires_grad_() for leaf in (vertices, camera.expand(2, 4), normals)]

    def loss(v: Tensor, c: Tensor, n: Tensor) -> Tensor:
        return weighted_sum(
            rasterize_normals(v, triangles, c, [3, (7, 6)], projection=projection, normals=n, impl=impl)
        )

    # Away from the outline the images are smooth; a step of 1e-7 takes no pixel across an edge here.
    assert gradcheck(loss, leaves, eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("cull", [True, False])
def test_gradient_matches_the_reference(impl, device, projection, cull):
    camera, move = camera_for(projection)
    vertices, triangles = ico_sphere(dtype=torch.float32)
    gradients = []
    for backend, where in (("reference", "cpu"), (impl, device)):
        leaves = [t.to(where, copy=True).requires_grad_() for t in ((vertices * 0.9)[None] + move, camera)]
        out = rasterize_normals(
            leaves[0],
            triangles.to(where),
            leaves[1],
            [6, (20, 30)],
            projection=projection,
            cull_backfaces=cull,
            impl=backend,
        )
        weighted_sum([RasterOutput(*(image.cpu() for image in level)) for level in out]).backward()
        gradients.append([leaf.grad.cpu() for leaf in leaves])
    for expected, actual in zip(*gradients, strict=True):
        scale = expected.abs().max()
        torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=2e-5)


def test_gradient_flows_only_where_it_is_wanted(impl, device):
    vertices, triangles = ico_sphere(dtype=torch.float32)
    for wanted in range(3):
        tensors = [vertices[None].to(device), FULL_VIEW.to(device), vertices[None].to(device)]
        tensors[wanted] = tensors[wanted].clone().requires_grad_()
        out = rasterize_normals(tensors[0], triangles.to(device), tensors[1], 8, normals=tensors[2], impl=impl)
        assert out.normals.requires_grad
        assert not out.triangle_ids.requires_grad
        assert not out.mask.requires_grad
        out.normals[:, 0].sum().backward()
        assert tensors[wanted].grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(impl, device, dtype):
    vertices, triangles = grid_mesh(5, 5)
    half = vertices[None].to(device, dtype).requires_grad_()
    out = rasterize_normals(half, triangles.to(device), FULL_VIEW.to(device), 9, impl=impl)
    full = rasterize_normals(half.detach().float(), triangles.to(device), FULL_VIEW.to(device), 9, impl=impl)
    for actual, expected in zip(out, full, strict=True):
        assert torch.equal(actual, expected.to(actual.dtype))
    assert out.normals.dtype == dtype
    out.normals.sum().backward()
    assert half.grad.dtype == dtype


def test_autocast_leaves_it_in_float32():
    vertices, triangles = grid_mesh(5, 5)
    expected = rasterize_normals(vertices[None], triangles, FULL_VIEW, 9, impl="cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = rasterize_normals(vertices[None], triangles, FULL_VIEW, 9, impl="cpu")
    assert actual.normals.dtype == torch.float32
    assert torch.equal(actual.normals, expected.normals)


def test_non_contiguous_input(impl, device):
    vertices, triangles = grid_mesh(6, 5)
    batch = torch.stack([vertices, vertices * 0.8]).to(device)
    strided = batch.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    cameras = FULL_VIEW.to(device).expand(2, 4)
    expected = rasterize_normals(batch, triangles.to(device), cameras.contiguous(), 11, impl=impl)
    actual = rasterize_normals(strided, triangles.to(device).T.contiguous().T, cameras, 11, impl=impl)
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


def test_given_adjacency_changes_nothing(impl, device):
    vertices, triangles = grid_mesh(6, 5)
    mesh, faces = vertices[None].to(device), triangles.to(device)
    adjacency = VertexAdjacency.build(faces, len(vertices))
    expected = rasterize_normals(mesh, faces, FULL_VIEW.to(device), 11, impl=impl)
    actual = rasterize_normals(mesh, faces, FULL_VIEW.to(device), 11, adjacency=adjacency, impl=impl)
    assert torch.equal(actual.normals, expected.normals)


def test_same_bits_every_time_and_for_any_number_of_threads():
    vertices, triangles = ico_sphere(40, 80, torch.float32)
    batch = torch.stack([vertices, 0.5 * vertices])
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaf = batch.clone().requires_grad_()
            outputs = rasterize_normals(leaf, triangles, FULL_VIEW, [8, 100, (150, 70)], impl="cpu")
            weighted_sum(outputs).backward()
            results.append([image.detach() for out in outputs for image in out] + [leaf.grad])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            assert torch.equal(actual, expected)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    count=st.integers(3, 12),
    faces=st.integers(1, 30),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    pinhole=st.booleans(),
    cull=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    snap=st.booleans(),
)
def test_any_soup_of_triangles(seed, batch, count, faces, size, pinhole, cull, dtype, snap):
    vertices, triangles, normals = soup(seed, batch, count, faces, dtype)
    if snap:  # vertices on pixel centres and borders: ties everywhere
        vertices = (vertices * 8).round() / 8
    projection = "pinhole" if pinhole else "orthographic"
    camera, move = camera_for(projection, dtype)
    arguments = {"projection": projection, "cull_backfaces": cull, "normals": normals}
    expected = rasterize_normals(vertices + move, triangles, camera, size, impl="reference", **arguments)
    actual = rasterize_normals(vertices + move, triangles, camera, size, impl="cpu", **arguments)
    # Where three normals nearly cancel, the direction of their sum means little.
    length = interpolate(normals, triangles, expected).norm(dim=1, keepdim=True)
    meaningful = ((length > 1e-3) | (expected.mask == 0)).to(dtype)
    same_pictures(
        actual._replace(normals=actual.normals * meaningful),
        expected._replace(normals=expected.normals * meaningful),
        1e-3 if dtype == torch.float32 else 1e-10,
    )


def test_a_sphere_shows_its_own_normals(impl, device):
    vertices, triangles = ico_sphere(48, 96, torch.float32)
    out = rasterize_normals(
        (0.9 * vertices)[None].to(device), triangles.to(device), FULL_VIEW.to(device), 64, impl=impl
    )
    centre = (torch.arange(64) + 0.5) / 32 - 1
    x, y = centre[None, :].expand(64, 64), -centre[:, None].expand(64, 64)
    inside = x**2 + y**2 < 0.85**2
    exact = torch.stack([x, y, (0.81 - x**2 - y**2).clamp(min=0).sqrt()]) / 0.9
    assert out.mask[0, 0].cpu()[inside].all()
    assert (out.normals[0].cpu() - exact).abs()[:, inside].max() < 0.01
    assert abs(out.mask.mean().item() - math.pi * 0.81 / 4) < 0.01


def test_interpolate_takes_shared_and_own_attributes(impl, device):
    vertices, triangles = grid_mesh(5, 4)
    mesh, faces = torch.stack([vertices, 0.5 * vertices]).to(device), triangles.to(device)
    out = rasterize_normals(mesh, faces, FULL_VIEW.to(device), 12, impl=impl)
    shared = interpolate(mesh[0], faces, out)
    own = interpolate(mesh[:1].expand(2, -1, -1), faces, out)
    assert torch.equal(shared, own)
    x = (torch.arange(12, device=device) + 0.5) / 6 - 1
    seen = out.mask[0, 0] > 0
    torch.testing.assert_close(shared[0, 0][seen], x.expand(12, 12)[seen], rtol=0, atol=1e-6)
    assert (shared * (1 - out.mask)).abs().max() == 0
    endless = mesh[0].clone()
    endless[faces[0, 0]] = math.inf
    assert (interpolate(endless, faces, out)[out.mask.expand(-1, 3, -1, -1) == 0] == 0).all()


def test_opcheck():
    vertices, triangles = grid_mesh(4, 3)
    adjacency = VertexAdjacency.build(triangles, len(vertices))
    mesh = vertices[None].requires_grad_()
    normals = vertex_normals(mesh.detach(), triangles).requires_grad_()
    arguments = (mesh, triangles, FULL_VIEW[None], normals, *adjacency, [4, 5, 3, 3], False, True, 0.01, "cpu")
    without_normals = (*arguments[:3], None, *arguments[4:])
    for some in (arguments, without_normals):
        torch.library.opcheck(torch.ops.garfast.rasterize_normals.default, some)
        detached = [a.detach() if isinstance(a, Tensor) else a for a in some]
        torch.library.opcheck(torch.ops.garfast.rasterize_normals.default, detached)
    images = [image.detach() for image in torch.ops.garfast.rasterize_normals(*arguments)]
    grads = (torch.randn_like(images[0]), None, torch.randn_like(images[4]))
    inputs = (mesh.detach(), triangles, FULL_VIEW[None], normals.detach(), *adjacency)
    backward = (*grads, *inputs, images[2], [4, 5, 3, 3], False, True, 0.01, "cpu")
    torch.library.opcheck(torch.ops.garfast.rasterize_normals_backward.default, backward)


def test_compiles_without_a_graph_break():
    vertices, triangles = grid_mesh(4, 3)

    def loss(v: Tensor) -> Tensor:
        outputs = rasterize_normals(v * 0.9, triangles, FULL_VIEW, [5, (9, 7)], impl="cpu")
        return weighted_sum_of_ones(outputs)

    def weighted_sum_of_ones(outputs: list[RasterOutput]) -> Tensor:
        return sum((out.normals**2 * 0.3).sum() + out.depth.sum() for out in outputs)

    eager, compiled = vertices[None].clone().requires_grad_(), vertices[None].clone().requires_grad_()
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    torch.testing.assert_close(compiled.grad, eager.grad)


def test_second_derivative_is_refused_by_kernels():
    vertices, triangles = grid_mesh(4, 3)
    leaf = vertices[None].requires_grad_()
    out = rasterize_normals(leaf, triangles, FULL_VIEW, 8, impl="cpu")
    (gradient,) = torch.autograd.grad(out.normals.pow(3).sum(), leaf, create_graph=True)
    with pytest.raises(SecondDerivativeError, match="impl='reference'"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vertices": torch.zeros(4, 3)}, r"vertices must have shape \[B, V, 3\], not \[4, 3\]"),
        ({"vertices": [[0.0, 0, 0]]}, "vertices must be a tensor of shape"),
        ({"triangles": torch.zeros(3, dtype=torch.int32)}, r"triangles must have shape \[F, 3\], not \[3\]"),
        ({"triangles": torch.tensor([[0, 1, 4]])}, r"triangles must lie in 0..3, found 0..4"),
        ({"camera": torch.zeros(3)}, r"camera must have shape \[4\], not \[3\]"),
        ({"camera": torch.zeros(2, 4)}, r"camera must have shape \[1, 4\], not \[2, 4\]"),
        ({"normals": torch.zeros(4, 3)}, r"normals must have shape \[1, 4, 3\], not \[4, 3\]"),
        ({"projection": "fisheye"}, "projection must be 'orthographic' or 'pinhole', not 'fisheye'"),
        ({"resolutions": "256"}, r"resolutions must be N, \(H, W\) or a sequence of them, not '256'"),
        ({"resolutions": [4, 2.5]}, r"a resolution must be N or \(H, W\), not 2.5"),
        ({"resolutions": [4, 0]}, "a resolution must lie in 1..16384, not 0"),
        ({"resolutions": [16384] * 8}, "resolutions must have fewer than 2.31 pixels together"),
        ({"resolutions": []}, "1 to 16 resolutions can be rendered in one call, not 0"),
        ({"resolutions": [8] * 17}, "1 to 16 resolutions can be rendered in one call, not 17"),
        ({"impl": "triton"}, "no Triton kernel"),
        ({"triangles": torch.tensor([[0, 1, 2**32 + 2]])}, r"triangles must lie in 0..3, found 0..4294967298"),
        ({"near": "x"}, "near must be a number, not 'x'"),
        ({"near": math.nan, "projection": "pinhole"}, "near must be positive, not nan"),
        ({"near": -1, "projection": "pinhole"}, "near must be positive, not -1"),
    ],
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_malformed_arguments_get_a_sentence(change, sentence, backend):
    arguments = {
        "vertices": torch.zeros(1, 4, 3),
        "triangles": torch.zeros(1, 3, dtype=torch.int32),
        "camera": FULL_VIEW,
        "resolutions": 8,
        "impl": backend,
    }
    with pytest.raises((ArgumentError, BackendUnavailableError), match=sentence):
        rasterize_normals(**(arguments | change))
