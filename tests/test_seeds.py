import pytest
import torch

from garfast.networks.generator import Generator, GeneratorConfig
from garfast.seeds import mixed_seed, seeded


def test_the_same_numbers_give_the_same_stream_and_others_another():
    assert torch.equal(torch.randn(8, generator=seeded(3, 1)), torch.randn(8, generator=seeded(3, 1)))
    assert len({mixed_seed(*words) for words in ((3,), (3, 1), (1, 3), (4,))}) == 4


def test_codes_are_not_the_weights_of_a_network_made_with_the_same_seed():
    torch.manual_seed(5)
    generator = Generator(GeneratorConfig(size=32, channel_base=256, channel_max=16, z_dim=32, style_dim=32))
    first = generator.mapping.layers[0].weight * generator.config.mapping_lr_multiplier
    again = torch.randn(32, 32, generator=torch.Generator().manual_seed(5))
    codes = torch.randn(32, 32, generator=seeded(5))
    torch.testing.assert_close(first, again)  # what `seeded` is for
    assert (codes - first).abs().mean() > 0.5


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        mixed_seed(-1)
