"""Which colours of a photograph a texture takes."""

from __future__ import annotations

import pytest
import torch

from garfast.fit.complexion import expected, plausible

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


def test_hidden_skin_is_expected_to_look_like_the_cheeks_not_like_the_fringe() -> None:
    regions, colour, _ = patches("behind")
    skin = colour[:, 8:-8].mean((1, 2))
    regions["above"] = torch.zeros(1, SIZE, SIZE)
    regions["above"][:, :8] = 1
    colour[:, :8] = torch.tensor([0.25, 0.2, 0.1]).view(3, 1, 1)
    weight = 1 - regions["behind"]
    look, certainty = expected(regions, torch.ones(1, SIZE, SIZE), colour, weight)
    hidden = look[:, -1, 0]
    assert (hidden < skin).all()
    assert (hidden > 0.85 * skin).all()
    assert (look == hidden.view(3, 1, 1)).all()
    assert (certainty > 0).all()
    assert (certainty < 1e-2).all()


def test_hidden_skin_of_a_photograph_without_skin_is_still_skin() -> None:
    regions, colour, _ = patches("neck")
    none = torch.zeros(1, SIZE, SIZE)
    look, certainty = expected(regions, torch.ones(1, SIZE, SIZE), colour, none)
    red, green, blue = look[:, 0, 0].tolist()
    assert red > green > blue > 0.3
    assert (certainty > 0).all()
