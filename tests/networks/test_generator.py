"""The renderer: shapes, conditioning, styles, and the same result from kernels and reference operators."""

from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.networks.generator import Generator, GeneratorConfig

TINY = {"size": 16, "z_dim": 8, "style_dim": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 8}


def pyramid(config: GeneratorConfig, batch: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(batch, 3, r, r, generator=generator) for r in config.resolutions]
    return [torch.nn.functional.normalize(level, dim=1) for level in levels]


def awake(generator: Generator) -> Generator:
    """Give the parts that start at zero (NIM heads, noise strengths) something to do."""
    torch.manual_seed(1)
    for name, parameter in generator.named_parameters():
        if "heads" in name or "noise_strength" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return generator


@pytest.mark.parametrize("nim", ["scale_shift", "scale", "concat", "none"])
def test_shapes_and_features(nim):
    config = GeneratorConfig(**TINY, nim=nim)
    generator = Generator(config)
    maps = None if nim == "none" else pyramid(config, 3)
    out = generator(maps, torch.randn(3, 8))
    assert out.image.shape == (3, 3, 16, 16)
    assert out.w.shape == (3, config.num_styles, 8)
    shapes = [(3, config.channels(s[-1]), *s[2:]) for s in generator.noise_shapes()]
    assert [tuple(f.shape) for f in out.features] == shapes


def test_normal_injection_starts_as_identity_and_then_matters():
    config = GeneratorConfig(**TINY)
    torch.manual_seed(0)
    generator = Generator(config)
    z = torch.randn(2, 8)
    images = [generator(pyramid(config, 2, seed), z, noise="zero").image for seed in (0, 1)]
    assert torch.equal(*images)
    awake(generator)
    images = [generator(pyramid(config, 2, seed), z, noise="zero").image for seed in (0, 1)]
    assert (images[0] - images[1]).abs().max() > 1e-3


def test_background_stays_alive_where_normals_are_zero():
    # The paper's literal product n f' would erase the background; m = 1 + ... does not.
    config = GeneratorConfig(**TINY)
    maps = [torch.zeros(1, 3, r, r) for r in config.resolutions]
    assert Generator(config)(maps, torch.randn(1, 8)).image.std() > 0


def test_depth_and_parameter_conditions():
    config = GeneratorConfig(**TINY, condition="depth")
    depth = [torch.randn(2, 1, r, r) for r in config.resolutions]
    assert Generator(config)(depth, torch.randn(2, 8)).image.shape == (2, 3, 16, 16)
    config = GeneratorConfig(**TINY, condition="params", params_dim=5)
    generator, z = Generator(config), torch.randn(2, 8)
    images = [generator(None, z, params=torch.full((2, 5), value), noise="zero").image for value in (0.0, 1.0)]
    assert not torch.equal(*images)


def test_one_full_size_map_is_averaged_down():
    config = GeneratorConfig(**TINY)
    generator, z = awake(Generator(config)), torch.randn(2, 8)
    full = torch.randn(2, 3, 16, 16)
    levels = [torch.nn.functional.adaptive_avg_pool2d(full, r) for r in config.resolutions]
    a, b = (generator(maps, z, noise="zero").image for maps in (full, levels))
    torch.testing.assert_close(a, b)


def test_styles_mixing_and_truncation():
    config = GeneratorConfig(**TINY)
    generator = Generator(config)
    z1, z2 = torch.randn(2, 3, 8)
    w1, w2 = generator.styles(z1), generator.styles(z2)
    mixed = generator.styles([z1, z2], mixing_layer=2)
    assert torch.equal(mixed[:, :2], w1[:, :2])
    assert torch.equal(mixed[:, 2:], w2[:, 2:])
    generator.mapping.mean_w.fill_(3.0)
    torch.testing.assert_close(generator.styles(z1, truncation=0.0), torch.full_like(w1, 3.0))
    maps = pyramid(config, 3)
    from_z = generator(maps, z1, noise="zero").image
    torch.testing.assert_close(generator(maps, w=w1, noise="zero").image, from_z)
    torch.testing.assert_close(generator(maps, w=w1[:, 0], noise="zero").image, from_z)


def test_given_noise_repeats_and_fresh_noise_differs():
    config = GeneratorConfig(**TINY)
    generator, z, maps = awake(Generator(config)), torch.randn(1, 8), pyramid(config, 1)
    noise = generator.sample_noise(1)
    assert torch.equal(generator(maps, z, noise=noise).image, generator(maps, z, noise=noise).image)
    assert not torch.equal(generator(maps, z).image, generator(maps, z).image)


def test_kernels_and_reference_agree_in_output_and_gradient():
    config = GeneratorConfig(**TINY)
    torch.manual_seed(0)
    kernels = awake(Generator(config))
    reference = Generator(config, impl="reference")
    reference.load_state_dict(kernels.state_dict())
    z, maps, noise = torch.randn(2, 8), pyramid(config, 2), kernels.sample_noise(2)
    results = []
    for network in (kernels, reference):
        leaves = [m.clone().requires_grad_() for m in maps]
        image = network(leaves, z, noise=noise).image
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(image.square().mean(), [*leaves, *parameters], allow_unused=True)
        results.append((image, gradients))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()) + 1e-7)


def test_path_length_gradient_reaches_the_weights():
    config = GeneratorConfig(**TINY)
    generator = awake(Generator(config))
    maps = [m.requires_grad_() for m in pyramid(config, 2)]
    w = generator.styles(torch.randn(2, 8))
    image = generator(maps, w=w).image
    gradients = torch.autograd.grad((image * torch.randn_like(image)).sum(), [w, *maps], create_graph=True)
    sum(g.square().sum() for g in gradients).sqrt().backward()
    assert all(torch.isfinite(p.grad).all() for p in generator.parameters() if p.grad is not None)
    assert generator.blocks[1].convolutions[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": 48}, "size must be a power of two"),
        ({"nim": "add"}, "nim must be one of"),
        ({"condition": "uv"}, "condition must be one of"),
        ({"condition": "params"}, "params_dim must be positive"),
    ],
)
def test_impossible_configurations_are_refused(change, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        GeneratorConfig(**change)


def test_malformed_calls_are_refused():
    config = GeneratorConfig(**TINY)
    generator, z, maps = Generator(config), torch.randn(1, 8), pyramid(config, 1)
    for arguments, sentence in [
        (((maps,), {}), "either z or w"),
        (((None, z), {}), "needs maps"),
        (((maps[1:], z), {}), "maps must have shapes"),
        (((maps, [z, z]), {"mixing_layer": 99}), "mixing_layer must lie"),
        (((maps, z), {"noise": "none"}), "noise must be maps"),
        (((maps, z), {"noise": generator.sample_noise(1)[1:]}), "noise must be 5 maps"),
    ]:
        with pytest.raises(ArgumentError, match=sentence):
            generator(*arguments[0], **arguments[1])
