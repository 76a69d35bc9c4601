"""The smooth correction of a render's colours."""

from __future__ import annotations

import pytest
import torch

from garfast.fit.colour_match import match_colours, polynomials, solve_positive


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """A render, and the same in warm light from one side."""
    generator = torch.Generator().manual_seed(0)
    render = torch.randn(2, 3, 32, 32, generator=generator).mul(0.4).clamp(-1, 1)
    x = polynomials(32, 1, render)[1]
    matrix = torch.tensor([[0.8, 0.1, 0.0], [0.1, 0.7, 0.1], [0.0, 0.2, 0.5]])
    photo = torch.einsum("ij,bjhw->bihw", matrix, render) + 0.2 * x * render + 0.1 + 0.15 * x
    return render, photo


def test_polynomials() -> None:
    basis = polynomials(4, 2, torch.zeros(0))
    assert basis.shape == (6, 4, 4)
    assert basis[1, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    torch.testing.assert_close(basis[4], basis[1] * basis[2])


def test_solve_positive() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 7, 9, generator=generator, dtype=torch.float64)
    matrix, right = root @ root.transpose(1, 2), torch.randn(3, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(solve_positive(matrix, right), torch.linalg.solve(matrix, right[..., None])[..., 0])


@pytest.mark.parametrize("order", [1, 2])
def test_finds_light_of_its_own_kind(order: int) -> None:
    render, photo = pictures()
    weights = torch.ones(2, 1, 32, 32)
    matched = match_colours(render, photo, weights, order=order, ridge=1e-5)
    assert (matched - photo).abs().max() < 2e-3


def test_what_has_no_weight_has_no_say() -> None:
    render, photo = pictures()
    weights = torch.ones(2, 1, 32, 32)
    weights[..., :8] = 0
    spoilt = photo.clone()
    spoilt[..., :8] = 5
    matched = match_colours(render, spoilt, weights, order=1, ridge=1e-5)
    assert (matched - photo)[..., 8:].abs().max() < 2e-3
    unchanged = match_colours(render, photo, torch.zeros(2, 1, 32, 32))
    torch.testing.assert_close(unchanged, render)


def test_the_correction_counts_as_constant() -> None:
    """Its gradient is that of a fixed linear map of the render."""
    render, photo = pictures()
    weights = torch.ones(2, 1, 32, 32)
    leaf = render.clone().requires_grad_(True)
    match_colours(leaf, photo, weights, order=1, ridge=1e-5).sum().backward()
    x = polynomials(32, 1, render)[1]
    expected = torch.tensor([0.9, 1.0, 0.6])[:, None, None] + 0.2 * x
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, expected.expand(2, 3, 32, 32), atol=2e-3, rtol=2e-3)


def test_a_large_side_is_solved_small() -> None:
    render, photo = pictures()
    large = torch.nn.functional.interpolate(render, scale_factor=4)
    lit = torch.nn.functional.interpolate(photo, scale_factor=4)
    matched = match_colours(large, lit, torch.ones(2, 1, 128, 128), order=2, ridge=1e-4)
    assert (matched - lit).abs().mean() < 0.01
