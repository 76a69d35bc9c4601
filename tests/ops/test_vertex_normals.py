"""vertex_normals: every backend against the equations, and the operator contract."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from garfast.errors import ArgumentError, BackendUnavailableError, SecondDerivativeError
from garfast.ops import VertexAdjacency, _native, vertex_normals
from tests.ops.conftest import grid_mesh


def test_flat_triangle_points_to_the_viewer(impl, device):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], device=device)
    normals = vertex_normals(vertices, torch.tensor([[0, 1, 2]], device=device), impl=impl)
    assert torch.equal(normals, torch.tensor([[0.0, 0, 1]] * 3, device=device))


def test_cube_corner_is_area_weighted(impl, device):
    # Three squares meet at the origin; two triangles of one square touch it, one of each other: weights 2 : 1 : 1.
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], device=device)
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 4, 1], [0, 3, 4]], device=device)
    normal = vertex_normals(vertices, triangles, impl=impl)[0]
    expected = torch.tensor([1.0, 1.0, 2.0], device=device) / math.sqrt(6)
    torch.testing.assert_close(normal, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_the_reference(impl, device, dtype):
    vertices, triangles = grid_mesh(13, 7, dtype=dtype)
    batch = torch.stack([vertices, vertices * 3 + 1, -vertices]).to(device)
    expected = vertex_normals(batch.cpu(), triangles, impl="reference")
    actual = vertex_normals(batch, triangles.to(device), impl=impl)
    # Sums of at most 6 products of 2 differences: a few tens of roundings.
    torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=50 * torch.finfo(dtype).eps)


def test_every_instruction_set_agrees(isa):
    vertices, triangles = grid_mesh(60, 50)
    expected = vertex_normals(vertices, triangles, impl="reference")
    torch.testing.assert_close(vertex_normals(vertices, triangles, impl="cpu"), expected, rtol=0, atol=6e-6)


def test_gradient(impl, device):
    vertices, triangles = grid_mesh(4, 3, dtype=torch.float64)
    batch = torch.stack([vertices, 2 * vertices.flip(0)]).to(device).requires_grad_()
    assert gradcheck(lambda v: vertex_normals(v, triangles.to(device), impl=impl), batch)


def test_gradient_matches_the_reference_in_float32(impl, device):
    vertices, triangles = grid_mesh(40, 60)
    weights = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for backend, where in (("reference", "cpu"), (impl, device)):
        leaf = vertices.to(where, copy=True).requires_grad_()
        (vertex_normals(leaf, triangles.to(where), impl=backend) * weights.to(where)).sum().backward()
        gradients.append(leaf.grad.cpu())
    scale = gradients[0].abs().max()
    torch.testing.assert_close(gradients[1] / scale, gradients[0] / scale, rtol=0, atol=1e-5)


def test_vertices_without_area_get_zero_and_no_gradient(impl, device):
    vertices = torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 5, 5]], device=device, requires_grad=True)
    normals = vertex_normals(vertices, torch.tensor([[0, 1, 2]], device=device), impl=impl)
    assert torch.equal(normals, torch.zeros_like(normals))
    (gradient,) = torch.autograd.grad(normals.sum(), vertices)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(("batch", "count", "faces"), [(0, 4, 2), (2, 0, 0), (2, 4, 0), (0, 0, 0)])
def test_empty(impl, device, batch, count, faces):
    vertices = torch.rand(batch, count, 3, device=device, requires_grad=True)
    triangles = torch.tensor([[0, 1, 2], [1, 2, 3]], device=device)[:faces]
    normals = vertex_normals(vertices, triangles, impl=impl)
    assert normals.shape == (batch, count, 3)
    normals.sum().backward()
    assert vertices.grad.shape == vertices.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(impl, device, dtype):
    vertices, triangles = grid_mesh(5, 5)
    half = vertices.to(device, dtype).requires_grad_()
    normals = vertex_normals(half, triangles.to(device), impl=impl)
    expected = vertex_normals(half.detach().float(), triangles.to(device), impl=impl).to(dtype)
    assert normals.dtype == dtype
    assert torch.equal(normals, expected)
    normals.sum().backward()
    assert half.grad.dtype == dtype


def test_non_contiguous_input(impl, device):
    vertices, triangles = grid_mesh(6, 5)
    batch = torch.stack([vertices, vertices + 1]).to(device)
    strided = batch.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strided.is_contiguous()
    expected = vertex_normals(batch, triangles.to(device), impl=impl)
    assert torch.equal(vertex_normals(strided, triangles.to(device).T.contiguous().T, impl=impl), expected)


def test_given_adjacency_changes_nothing(impl, device):
    vertices, triangles = grid_mesh(6, 5)
    vertices, triangles = vertices.to(device), triangles.to(device)
    adjacency = VertexAdjacency.build(triangles, len(vertices))
    expected = vertex_normals(vertices, triangles, impl=impl)
    assert torch.equal(vertex_normals(vertices, triangles, adjacency=adjacency, impl=impl), expected)


def test_adjacency_lists_each_corner_once():
    _, triangles = grid_mesh(4, 5)
    with pytest.raises(ArgumentError, match=r"VertexAdjacency.build: triangles must lie in 0..18, found 0..19"):
        VertexAdjacency.build(triangles, 19)
    adjacency = VertexAdjacency.build(triangles, 20)
    assert adjacency.corners.sort().values.tolist() == list(range(triangles.numel()))
    for vertex in range(20):
        corners = adjacency.corners[adjacency.offsets[vertex] : adjacency.offsets[vertex + 1]]
        assert (triangles.reshape(-1)[corners.long()] == vertex).all()


def test_same_bits_every_time_and_for_any_number_of_threads():
    vertices, triangles = grid_mesh(80, 90)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaf = vertices.clone().requires_grad_()
            normals = vertex_normals(leaf, triangles, impl="cpu")
            (normals * torch.arange(3)).sum().backward()
            results.append((normals.detach(), leaf.grad))
    finally:
        torch.set_num_threads(threads)
    for normals, gradient in results[1:]:
        assert torch.equal(normals, results[0][0])
        assert torch.equal(gradient, results[0][1])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(3, 12), st.integers(1, 30), st.integers(0, 10_000))
def test_any_soup_of_triangles(batch, count, faces, seed):
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.randn(batch, count, 3, generator=generator, dtype=torch.float64)
    triangles = torch.randint(count, (faces, 3), generator=generator)
    # Where the areas cancel to rounding error the direction means nothing; compare it elsewhere.
    a, b, c = (vertices[:, triangles[:, k]] for k in range(3))
    weighted = torch.linalg.cross(b - a, c - a)
    total = sum(torch.zeros_like(vertices).index_add(1, triangles[:, k], weighted) for k in range(3))
    meaningful = total.norm(dim=-1) > 1e-6
    expected = vertex_normals(vertices, triangles, impl="reference")[meaningful]
    actual = vertex_normals(vertices, triangles, impl="cpu")[meaningful]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-7)


def test_opcheck():
    vertices, triangles = grid_mesh(4, 3)
    adjacency = VertexAdjacency.build(triangles, len(vertices))
    arguments = (vertices[None].requires_grad_(), triangles, *adjacency, "cpu")
    torch.library.opcheck(torch.ops.garfast.vertex_normals.default, arguments)
    normals, inverse = torch.ops.garfast.vertex_normals(*arguments)
    grad = torch.randn_like(normals)
    saved = (grad, vertices[None], triangles, *adjacency, normals.detach(), inverse, "cpu")
    torch.library.opcheck(torch.ops.garfast.vertex_normals_backward.default, saved)


@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_compiles_without_a_graph_break(impl):
    vertices, triangles = grid_mesh(4, 3)

    def loss(v):
        return (vertex_normals(v * 2, triangles, impl=impl) ** 3).sum()

    eager, compiled = vertices.clone().requires_grad_(), vertices.clone().requires_grad_()
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    torch.testing.assert_close(compiled.grad, eager.grad)


def test_second_derivative_is_refused_by_kernels():
    vertices, triangles = grid_mesh(4, 3)
    leaf = vertices.requires_grad_()
    (gradient,) = torch.autograd.grad(vertex_normals(leaf, triangles, impl="cpu").pow(3).sum(), leaf, create_graph=True)
    with pytest.raises(SecondDerivativeError, match="impl='reference'"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("vertices", "triangles", "sentence"),
    [
        ([[0.0, 0, 0]], torch.zeros(1, 3, dtype=torch.int32), "vertices must be a tensor of shape"),
        (torch.zeros(4, 2), torch.zeros(1, 3, dtype=torch.int32), r"vertices must have shape \[V, 3\], not \[4, 2\]"),
        (torch.zeros(4, 3, dtype=torch.int32), torch.zeros(1, 3, dtype=torch.int32), "vertices must be floating point"),
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int32), r"triangles must have shape \[F, 3\], not \[3\]"),
        (torch.zeros(4, 3), torch.zeros(1, 3), "triangles must be int32 or int64"),
        (torch.zeros(4, 3), torch.tensor([[0, 1, 4]]), r"triangles must lie in 0..3, found 0..4"),
    ],
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_malformed_arguments_get_a_sentence(vertices, triangles, sentence, backend):
    with pytest.raises(ArgumentError, match=sentence):
        vertex_normals(vertices, triangles, impl=backend)


def test_malformed_adjacency_gets_a_sentence():
    vertices, triangles = grid_mesh(3, 3)
    good = VertexAdjacency.build(triangles, len(vertices))
    for adjacency, sentence in (
        (tuple(good), "adjacency must be a VertexAdjacency or None, not tuple"),
        (good._replace(offsets=good.offsets.long()), "adjacency.offsets must be int32, not torch.int64"),
        (good._replace(corners=good.corners[1:]), r"adjacency.corners must have shape \[24\], not \[23\]"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            vertex_normals(vertices, triangles, adjacency=adjacency, impl="cpu")


def test_unknown_and_unavailable_backends():
    vertices, triangles = grid_mesh(3, 3)
    with pytest.raises(ArgumentError, match="impl must be one of"):
        vertex_normals(vertices, triangles, impl="fast")
    with pytest.raises(BackendUnavailableError, match="no Triton kernel"):
        vertex_normals(vertices, triangles, impl="triton")
    if _native.why_not("cuda"):
        with pytest.raises(BackendUnavailableError, match="cannot run here"):
            vertex_normals(vertices, triangles, impl="cuda")
    else:
        with pytest.raises(BackendUnavailableError, match="needs tensors on cuda"):
            vertex_normals(vertices, triangles, impl="cuda")
