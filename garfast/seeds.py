"""Random numbers that a seed decides, apart from those that networks start from."""

from __future__ import annotations

import numpy as np
import torch


def mixed_seed(*words: int) -> int:
    """One seed from several non-negative numbers, every bit of which depends on all of them.

    Training seeds torch itself with the user's number before it makes a network, so that ``manual_seed`` of the same
    number repeats the network's first weights: as latent codes they would be the rows of the mapping network's own
    first layer, which it answers with extreme styles. A mixed seed does not meet them.

    Raises:
        ValueError: a number is negative.
    """
    return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])


def seeded(*words: int) -> torch.Generator:
    """Random numbers on the CPU from :func:`mixed_seed`."""
    return torch.Generator().manual_seed(mixed_seed(*words))
