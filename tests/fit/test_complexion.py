"""Which colours of a photograph a texture takes."""

from __future__ import annotations

import pytest
import torch

from garfast.fit.complexion import plausible

SIZE = 32


def patches(place: str) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """A face of skin; in its lowest 8 rows, which are ``place``, the left half skin and the right a white collar."""
    generator = torch.Generator().manual_seed(0)
    skin = torch.tensor([0.7, 0.5, 0.4]).view(3, 1, 1)
    colour = skin * (1 + 0.1 * torch.randn(1, SIZE, SIZE, generator=generator))
    colour = colour + 0.02 * torch.randn(3, SIZE, SIZE, generator=generator)
    colour[:, -8:, SIZE // 2 :] = torch.tensor([0.8, 0.85, 0.95]).view(3, 1, 1)
    region = torch.zeros(1, SIZE, SIZE)
    region[:, -8:] = 1
    none = torch.zeros_like(region)
    regions = {"skin": torch.ones_like(region), "above": none} | ({place: region} if place != "rim" else {})
    return regions, colour, region if place == "rim" else none


@pytest.mark.parametrize("place", ["neck", "behind", "below", "rim"])
def test_other_colours_than_the_faces_are_refused_around_it(place: str) -> None:
    regions, colour, rim = patches(place)
    result = plausible(regions, colour, torch.ones(1, SIZE, SIZE), rim)
    assert (result[:, -8:, SIZE // 2 :] == 0).all()
    assert result[:, -8:, : SIZE // 2].mean() > 0.9
    assert (result[:, :-8] == 1).all()


def test_hair_above_the_brows_stays() -> None:
    regions, colour, rim = patches("rim")
    regions["above"] = rim
    assert (plausible(regions, colour, torch.ones(1, SIZE, SIZE), rim) == 1).all()
