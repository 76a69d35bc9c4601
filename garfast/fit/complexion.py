"""Which colours of a photograph belong to the person, and what hidden places look like."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Regions of a model that have a say here. 'behind' (the ears), 'below' (the chin) and 'above' (the brows) are made for
# every model.
COLOUR_REGIONS = ("skin", "neck", "scalp", "lips", "brows", "eyeballs", "teeth", "tongue", "mouth_socket")
_NO_FACE_SKIN = ("behind", "below", *COLOUR_REGIONS[1:])

# What a hidden place of a region looks like; all else looks like the face's skin.
_REGION_COLOURS = {
    "eyeballs": (0.86, 0.83, 0.80),
    "teeth": (0.86, 0.82, 0.75),
    "tongue": (0.62, 0.35, 0.34),
    "mouth_socket": (0.36, 0.16, 0.16),
}
_SKIN = (0.72, 0.56, 0.48)

# Expectations are far weaker than anything seen: they show where there is nothing else to go by. Where they come from
# the photograph itself, on the skin, the scalp and the neck, they take over within some 50 texels: what is seen beside
# a large hidden part is in the shade of hair more often than not.
_CERTAINTY, _OWN_CERTAINTY = 1e-6, 4e-4

# Squared distances from typical colours, in standard deviations: accepted up to the first, refused from the second on.
# A refusal has to be complete: filling spreads whatever weight is left.
_ACCEPTED = (9.0, 16.0)
_FEWEST = 100


def plausible(regions: Mapping[str, Tensor], colour: Tensor, weight: Tensor, rim: Tensor) -> Tensor:
    """1 [1,T,T], lower where a colour that is seen is not that of the person.

    On the neck, behind the ears and along the outline below the brows, where meshes reach over collars, hair and
    backgrounds, colours must be like those of the face; on the scalp, like those of the scalp above the brows.

    Args:
        regions: masks [1,T,T] by name, in texture space.
        colour: [3,T,T], 0..1.
        weight: [1,T,T], how well the photograph shows each texel.
        rim: [1,T,T], 1 near the face's outline in the photograph to 0 well inside.
    """
    result = torch.ones_like(weight)
    scalp = regions.get("scalp", torch.zeros_like(weight))
    places = [regions[name] for name in ("neck", "behind", "below") if name in regions]
    beyond = torch.stack([rim * (1 - regions.get("above", torch.zeros_like(rim))), *places]).amax(0)
    for place, typical in ((beyond * (1 - scalp), _face_skin(regions, weight)), (scalp, scalp)):
        seen = (weight[0] > 0.5) & (typical[0] > 0.5)
        if int(seen.sum()) < _FEWEST:
            continue
        sample = _typical(colour[:, seen].T)
        asked = (place[0] > 0) & (weight[0] > 0)
        unlike = _mahalanobis(colour[:, asked].T, sample)
        accepted, refused = _ACCEPTED
        result[:, asked] *= 1 - place[:, asked] * ((unlike - accepted) / (refused - accepted)).clamp(0, 1)
    return result


def expected(regions: Mapping[str, Tensor], inside: Tensor, colour: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What texels look like [3,T,T] if nothing says otherwise, and how certain that is, [1,T,T] in 0..1.

    Args:
        regions, colour, weight: as for `plausible`.
        inside: [1,T,T], 1 inside the texture's islands, 0 outside.
    """

    def seen_colours(mask: Tensor) -> Tensor | None:
        seen = (weight[0] > 0.5) & (mask[0] > 0.5)
        return colour[:, seen].T if int(seen.sum()) >= _FEWEST else None

    certainty = _CERTAINTY * inside
    look = colour.new_tensor(_SKIN).view(3, 1, 1).expand_as(colour)
    # Not the forehead, where hair hangs.
    skin = seen_colours(_face_skin(regions, weight) * (1 - regions.get("above", torch.zeros_like(weight))))
    # What a photograph shows of the neck is its shaded part, under the chin: half of its colour is that of the face.
    places = [] if skin is None else [(inside, _less_lit(_typical(skin)), 1.0)]
    for name, share in (("neck", 0.5), ("scalp", 1.0)):
        own = seen_colours(regions[name]) if name in regions else None
        if own is not None:
            places.append((regions[name] * inside, own.median(0).values, share))
    for place, own, share in places:
        look = torch.lerp(look, own.view(3, 1, 1), share * place)
        certainty = torch.maximum(certainty, _OWN_CERTAINTY * place)
    for name, region_colour in _REGION_COLOURS.items():
        if name in regions:
            look = torch.lerp(look, look.new_tensor(region_colour).view(3, 1, 1), regions[name])
            certainty = torch.lerp(certainty, _CERTAINTY * inside, regions[name])
    return look, certainty


def _face_skin(regions: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """How much a texel belongs to the skin of the face itself, [1,T,T] in 0..1."""
    skin = regions.get("skin", torch.ones_like(like))
    for name in _NO_FACE_SKIN:
        if name in regions:
            skin = skin * (1 - regions[name])
    return skin


def _typical(sample: Tensor) -> Tensor:
    """The colours [M,3] of a sample [N,3] without highlights, nostrils, stray hair, and what is behind a head smaller
    than its mesh."""
    distance = _mahalanobis(sample, sample)
    return sample[distance <= distance.quantile(0.8)]


def _less_lit(sample: Tensor) -> Tensor:
    """The mean colour [3] of the darker half of a sample [N,3] without its darkest: what is hidden, such as the ears,
    mostly gets less light than the middle of the face."""
    brightness = sample.sum(1)
    low, high = brightness.quantile(brightness.new_tensor([0.2, 0.5]))
    return sample[(brightness >= low) & (brightness <= high)].mean(0)


def _mahalanobis(points: Tensor, sample: Tensor) -> Tensor:
    """Squared distances [N] of points [N,3] from a sample [M,3] in its own standard deviations."""
    spread = torch.cov(sample.T) + 1e-4 * torch.eye(3, dtype=sample.dtype, device=sample.device)
    away = points - sample.mean(0)
    return (away @ torch.linalg.inv(spread) * away).sum(1)
