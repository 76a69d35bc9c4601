"""What happens to pictures before a network sees them."""

from __future__ import annotations

import torch

from garfast.train.augment import _lamps, develop


def test_developing_is_repeatable_and_stays_in_range():
    images = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    one, other = (develop(torch.Generator().manual_seed(2), images.clone()) for _ in range(2))
    assert torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1
    assert not torch.equal(one, develop(torch.Generator().manual_seed(3), images.clone()))


def test_a_fifth_of_the_pictures_stand_in_the_light_of_two_lamps():
    gains = _lamps(torch.Generator().manual_seed(4), 400, 16)
    lit = (gains != 1).flatten(1).any(1)
    assert 0.14 < lit.float().mean() < 0.26
    # The colour, red over blue, changes from one side to the other and not along the border between them.
    colour = (gains[lit, 0] / gains[lit, 2]).log()
    assert (colour.amax((1, 2)) - colour.amin((1, 2))).median() > 0.2
    assert (gains > 0).all()
    assert gains.isfinite().all()
