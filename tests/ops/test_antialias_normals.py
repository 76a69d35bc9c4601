"""rasterize_normals(antialias=True): continuity, gradients that move the outline, and every backend."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from garfast.errors import SecondDerivativeError
from garfast.ops import RasterOutput, VertexAdjacency, rasterize_normals, vertex_normals
from tests.ops.test_rasterize_normals import FULL_VIEW, PROJECTIONS, camera_for, ico_sphere, soup

TRIANGLE = torch.tensor([[-0.61, -0.52, 0], [0.73, -0.31, 0], [-0.1, 0.77, 0]], dtype=torch.float64)
# Thinner than a pixel of most levels below.
SLIVER = torch.tensor([[-0.61, -0.5, 0], [0.73, 0.31, 0], [0.72, 0.35, 0]], dtype=torch.float64)


def loss_of(outputs: list[RasterOutput]) -> Tensor:
    """A different weight on every number of normals and mask."""
    generator = torch.Generator().manual_seed(0)
    total = outputs[0].normals.new_zeros(())
    for out in outputs:
        for image in (out.normals, out.mask):
            weights = torch.randn(image.shape, generator=generator, dtype=torch.float64)
            total = total + (image * weights.to(image)).sum()
    return total


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("cull", [True, False])
def test_matches_the_reference(impl, device, projection, cull):
    camera, move = camera_for(projection)
    sphere = [tensor.float() if tensor.is_floating_point() else tensor for tensor in ico_sphere()]
    for vertices, triangles in (sphere, (soup(3)[0][0], soup(3)[1])):
        results = []
        for backend, where in (("reference", "cpu"), (impl, device)):
            leaves = [t.to(where, copy=True).requires_grad_() for t in ((0.9 * vertices)[None] + move, camera)]
            outputs = rasterize_normals(
                leaves[0],
                triangles.to(where),
                leaves[1],
                [4, (9, 14), 32],
                projection=projection,
                cull_backfaces=cull,
                antialias=True,
                impl=backend,
            )
            loss_of([RasterOutput(*(image.cpu() for image in out)) for out in outputs]).backward()
            results.append((outputs, [leaf.grad.cpu() for leaf in leaves]))
        (expected, expected_grads), (actual, actual_grads) = results
        for e, a in zip(expected, actual, strict=True):
            torch.testing.assert_close(a.mask.cpu(), e.mask, rtol=0, atol=2e-5)
            torch.testing.assert_close(a.normals.cpu(), e.normals, rtol=0, atol=2e-5)
            assert torch.equal(a.triangle_ids.cpu(), e.triangle_ids)
        for e, a in zip(expected_grads, actual_grads, strict=True):
            torch.testing.assert_close(a / e.abs().max(), e / e.abs().max(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("first", ["front", "back"])
def test_outline_of_front_and_back_faces_does_not_depend_on_their_order(first, impl, device):
    # A prism along the line of sight, its caps alone: one faces the camera, one away from it, the sides are edge-on.
    corners = torch.tensor([[-0.6, -0.5], [0.7, -0.4], [0.1, 0.65]])
    front, back = (torch.cat([corners, torch.full((3, 1), z)], 1) for z in (0.2, -0.2))
    caps = [[0, 1, 2], [3, 5, 4]] if first == "front" else [[3, 5, 4], [0, 1, 2]]
    sides = [[0, 3, 1], [1, 3, 4], [1, 4, 2], [2, 4, 5], [2, 5, 0], [0, 5, 3]]
    mesh, faces = torch.cat([front, back])[None], torch.tensor(caps + sides)
    options = {"cull_backfaces": False, "antialias": True}
    expected = rasterize_normals(mesh, faces, FULL_VIEW, 32, **options, impl="reference")
    out = rasterize_normals(mesh.to(device), faces.to(device), FULL_VIEW.to(device), 32, **options, impl=impl)
    torch.testing.assert_close(out.normals.cpu(), expected.normals, rtol=0, atol=2e-5)
    torch.testing.assert_close(out.mask.cpu(), expected.mask, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", ["sphere", "triangle", "sliver"])
@pytest.mark.parametrize("size", [4, 16, 64])
def test_image_is_continuous(shape, size):
    vertices, triangles = ico_sphere(24, 48)
    if shape != "sphere":
        vertices, triangles = (TRIANGLE if shape == "triangle" else SLIVER), torch.tensor([[0, 1, 2]])
    # 100 steps along a slanted line, of 0.01 pixels each.
    steps = torch.linspace(0, 2 / size, 101, dtype=torch.float64)
    moved = 0.8 * vertices + torch.stack([steps, 0.57 * steps, 0 * steps], -1)[:, None]
    camera = FULL_VIEW.double()
    smooth = rasterize_normals(moved, triangles, camera, size, antialias=True, impl="cpu").mask
    hard = rasterize_normals(moved, triangles, camera, size, impl="cpu").mask
    # Where the outline is slanted a pixel changes faster than the outline moves, but never by a jump.
    assert (smooth[1:] - smooth[:-1]).abs().max() < 0.06
    if shape != "sliver" or size == 64:
        assert (hard[1:] - hard[:-1]).abs().max() == 1
    assert smooth.min() >= 0
    assert smooth.max() <= 1


@pytest.mark.parametrize("size", [16, 64])
def test_mask_measures_the_area(impl, device, size):
    a, b, c = TRIANGLE[:, :2]
    area = 0.5 * abs((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]).item()
    arguments = (TRIANGLE[None].float().to(device), torch.tensor([[0, 1, 2]], device=device), FULL_VIEW.to(device))
    smooth = rasterize_normals(*arguments, size, antialias=True, impl=impl).mask.mean().item() * 4
    # The corners are not exact: a fraction of a pixel altogether.
    assert smooth == pytest.approx(area, abs=0.25 * (2 / size) ** 2)
    vertices, triangles = ico_sphere(24, 48, torch.float32)
    arguments = ((0.8 * vertices)[None].to(device), triangles.to(device), FULL_VIEW.to(device))
    smooth = rasterize_normals(*arguments, size, antialias=True, impl=impl).mask.mean().item() * 4
    assert smooth == pytest.approx(0.64 * math.pi, rel=6e-3)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("shape", ["sphere", "triangle"])
def test_gradient_against_finite_differences(impl, device, projection, shape):
    if impl == "cuda":
        pytest.skip("the CUDA kernel computes in float32; it is compared with the reference")
    camera, move = camera_for(projection, torch.float64)
    vertices, triangles = ico_sphere(5, 7)
    if shape == "triangle":
        vertices, triangles = (
            TRIANGLE + torch.tensor([[0.0, 0, 0.3], [0, 0, 0], [0, 0, -0.2]]),
            torch.tensor([[0, 1, 2]]),
        )
    vertices = (0.9 * vertices)[None] + move
    normals = vertex_normals(vertices, triangles, impl="reference") * 1.2 + 0.05
    leaves = [leaf.clone().requires_grad_() for leaf in (vertices, camera, normals)]

    def loss(v: Tensor, c: Tensor, n: Tensor) -> Tensor:
        return loss_of(
            rasterize_normals(
                v, triangles, c, [4, (7, 11)], projection=projection, normals=n, antialias=True, impl=impl
            )
        )

    assert gradcheck(loss, leaves, eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_gradient_moves_the_outline():
    """A disc that is too small and off centre finds the place and size of another from its mask alone."""
    vertices, triangles = ico_sphere(12, 24, torch.float32)
    sizes = [8, 16]

    def masks(where: Tensor) -> list[Tensor]:
        mesh = (vertices * where[0] + torch.stack([where[1], where[2], 0 * where[0]]))[None]
        outputs = rasterize_normals(mesh, triangles, FULL_VIEW, sizes, antialias=True, impl="cpu")
        return [out.mask for out in outputs]

    goal = torch.tensor([0.6, 0.1, -0.15])
    wanted = masks(goal)
    guess = torch.tensor([0.45, -0.1, 0.1], requires_grad=True)
    optimiser = torch.optim.Adam([guess], lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        sum(((mask - other) ** 2).mean() for mask, other in zip(masks(guess), wanted, strict=True)).backward()
        optimiser.step()
    torch.testing.assert_close(guess.detach(), goal, rtol=0, atol=0.02)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 2),
    faces=st.integers(1, 20),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    pinhole=st.booleans(),
    cull=st.booleans(),
)
def test_any_soup_of_triangles(seed, batch, faces, size, pinhole, cull):
    vertices, triangles, normals = soup(seed, batch, 8, faces, torch.float64)
    projection = "pinhole" if pinhole else "orthographic"
    camera, move = camera_for(projection, torch.float64)
    arguments = {"projection": projection, "cull_backfaces": cull, "normals": normals, "antialias": True}
    expected = rasterize_normals(vertices + move, triangles, camera, size, impl="reference", **arguments)
    actual = rasterize_normals(vertices + move, triangles, camera, size, impl="cpu", **arguments)
    torch.testing.assert_close(actual.mask, expected.mask, rtol=0, atol=1e-9)
    torch.testing.assert_close(actual.normals, expected.normals, rtol=0, atol=1e-6)
    assert actual.mask.max() <= 1 + 1e-9


@pytest.mark.parametrize(("batch", "count", "faces"), [(0, 4, 2), (2, 0, 0), (2, 4, 0)])
def test_empty(impl, device, batch, count, faces):
    vertices = torch.rand(batch, count, 3, device=device, requires_grad=True)
    triangles = torch.tensor([[0, 1, 2], [1, 2, 3]], device=device)[:faces]
    out = rasterize_normals(vertices, triangles, FULL_VIEW.to(device), (3, 2), antialias=True, impl=impl)
    assert out.normals.shape == (batch, 3, 3, 2)
    assert not out.mask.any()
    (out.normals.sum() + out.mask.sum()).backward()
    assert vertices.grad.shape == vertices.shape


def test_bad_vertices_do_no_harm(impl, device):
    vertices, triangles = ico_sphere(6, 8, torch.float32)
    for vertex, bad in enumerate((math.nan, math.inf, -math.inf, 1e38)):
        vertices[5 * vertex, vertex % 3] = bad
    leaf = vertices[None].to(device).requires_grad_()
    normals = torch.tensor([0.0, 0, 1], device=device).expand(1, len(vertices), 3)
    out = rasterize_normals(
        leaf, triangles.to(device), FULL_VIEW.to(device), 16, normals=normals, antialias=True, impl=impl
    )
    (out.normals.sum() + out.mask.sum()).backward()
    assert out.normals.isfinite().all()
    assert out.mask.isfinite().all()
    assert leaf.grad.isfinite().all()


def test_same_bits_every_time_and_for_any_number_of_threads():
    vertices, triangles = ico_sphere(30, 40, torch.float32)
    batch = torch.stack([vertices, 0.5 * vertices])
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaf = batch.clone().requires_grad_()
            outputs = rasterize_normals(leaf, triangles, FULL_VIEW, [8, (50, 70)], antialias=True, impl="cpu")
            loss_of(outputs).backward()
            results.append([image.detach() for out in outputs for image in out] + [leaf.grad])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            assert torch.equal(actual, expected)


def test_opcheck():
    vertices, triangles = ico_sphere(4, 5, torch.float32)
    mesh = (0.9 * vertices)[None]
    adjacency = VertexAdjacency.build(triangles, len(vertices))
    normals = vertex_normals(mesh, triangles)
    inputs = (mesh, triangles, FULL_VIEW[None], normals, *adjacency)
    options = ([4, 5, 3, 3], False, True, 0.01, "cpu")
    n, m, ids, _, d, _, _ = torch.ops.garfast.rasterize_normals(*inputs, *options)
    arguments = (n.requires_grad_(), m, ids, d, mesh.requires_grad_(), *inputs[1:], *options)
    torch.library.opcheck(torch.ops.garfast.antialias_normals.default, arguments)
    outputs = [image.detach() for image in torch.ops.garfast.antialias_normals(*arguments)]
    detached = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
    backward = (torch.randn_like(n), None, *detached[:10], *outputs, *options)
    torch.library.opcheck(torch.ops.garfast.antialias_normals_backward.default, backward)


def test_compiles_without_a_graph_break():
    vertices, triangles = ico_sphere(4, 5, torch.float32)

    def loss(v: Tensor) -> Tensor:
        out = rasterize_normals(v * 0.9, triangles, FULL_VIEW, 9, antialias=True, impl="cpu")
        return (out.normals**2 * 0.3).sum() + out.mask.sum()

    eager, compiled = vertices[None].clone().requires_grad_(), vertices[None].clone().requires_grad_()
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    torch.testing.assert_close(compiled.grad, eager.grad)


def test_second_derivative_is_refused_by_kernels():
    vertices, triangles = ico_sphere(4, 5, torch.float32)
    leaf = vertices[None].requires_grad_()
    out = rasterize_normals(leaf, triangles, FULL_VIEW, 8, antialias=True, impl="cpu")
    (gradient,) = torch.autograd.grad(out.mask.pow(3).sum(), leaf, create_graph=True)
    with pytest.raises(SecondDerivativeError, match="impl='reference'"):
        gradient.sum().backward()
