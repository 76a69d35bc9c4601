"""Unknown texels continue the known ones smoothly, and only within their island."""

from __future__ import annotations

import pytest
import torch

from garfast.fit.fill import Islands, push_pull, texture_islands


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (16, 16), (13, 29)])
def test_push_pull_keeps_what_is_known(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(3, *size, generator=generator)
    torch.testing.assert_close(push_pull(colour, torch.ones(1, *size)), colour)
    assert (push_pull(colour, torch.zeros(1, *size)) == 0).all()
    known = (torch.rand(1, *size, generator=generator) > 0.5).float()
    filled = push_pull(colour, known)
    torch.testing.assert_close(filled * known, colour * known)
    if known.any():
        inside = colour[:, known[0] > 0]
        assert (filled >= inside.amin() - 1e-5).all()
        assert (filled <= inside.amax() + 1e-5).all()


def test_push_pull_is_smooth_across_a_hole() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    known = torch.ones(1, 64, 64)
    known[:, 16:48, 16:48] = 0
    filled = push_pull(ramp, known)
    assert (filled - ramp).abs().max() < 0.16
    assert filled.diff(dim=2).abs().max() < 0.12


def test_islands_are_found_and_filled_apart() -> None:
    triangles = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 5, 6], [6, 5, 7], [9, 10, 8]], dtype=torch.int32)
    islands = texture_islands(triangles)
    assert islands[0] == islands[1]
    assert islands[2] == islands[3]
    assert len(set(islands.tolist())) == 3

    layout = torch.full((20, 30), -1)
    layout[2:18, 2:10], layout[2:18, 12:20], layout[2:18, 22:28] = 0, 1, 2
    colour, weight = torch.zeros(3, 20, 30), torch.zeros(1, 20, 30)
    colour[:, 5, 5], weight[:, 5, 5] = 0.3, 1
    colour[:, 5, 15], weight[:, 5, 15] = 0.9, 1
    filled = Islands(layout).fill(colour, weight)
    torch.testing.assert_close(filled[:, layout == 0], torch.full((3, 128), 0.3))
    torch.testing.assert_close(filled[:, layout == 1], torch.full((3, 128), 0.9))
    assert (filled[:, (layout < 0) | (layout == 2)] == 0).all()


def test_padding_repeats_the_border() -> None:
    image = torch.zeros(3, 40, 40)
    known = torch.zeros(40, 40, dtype=torch.bool)
    known[10:20, 10:20] = True
    image[:, known] = 0.5
    padded = Islands(known.long() - 1).pad(image, reach=4)
    torch.testing.assert_close(padded, torch.full_like(padded, 0.5))
    assert (Islands(torch.full((40, 40), -1)).pad(image) == image).all()
