from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch

from garfast.errors import TrainingError
from garfast.networks.generator import Generator, GeneratorConfig
from garfast.networks.inverter import Inverter
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.renderer import Renderer, load_network
from garfast.train import inverter as module
from garfast.train.inverter import (
    InverterTask,
    InverterTraining,
    InverterWeights,
    feature_loss,
    latent_loss,
    noise_loss,
    noise_strengths,
    style_loss,
)
from garfast.train.loop import LoopConfig, train
from tests.train.fake_portraits import FakePortraits

CONFIG = GeneratorConfig(
    size=16, z_dim=8, style_dim=8, mapping_layers=2, channel_base=128, channel_max=8, nim_channels=4
)
SMALL = InverterTraining(steps=6, batch=2, paired=2, bfloat16=False)


@pytest.fixture
def renderer() -> Renderer:
    torch.manual_seed(0)
    generator = Generator(CONFIG).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    perceptual = PerceptualNet(PerceptualConfig(size=16, widths=(4, 4, 4, 4), depths=(0, 0, 0, 0)))
    return Renderer(generator, perceptual=perceptual.eval())


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(module, "MEASURED", 2)
    monkeypatch.setattr(module, "HELD_OUT", 8)


def test_style_loss_counts_differences_by_the_metric():
    styles, metric = torch.tensor([[3.0, 0.0], [1.0, 4.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    assert float(style_loss(styles, styles, metric)) == 0
    found = styles + torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert float(style_loss(found, styles, metric)) == pytest.approx((2 + 5) / 2)


def test_latent_loss_ignores_the_length_of_the_true_code():
    z = torch.tensor([[3.0, 4.0]])
    unit = math.sqrt(2) * torch.tensor([[0.6, 0.8]])
    assert float(latent_loss(unit, z)) == pytest.approx(0, abs=1e-12)
    assert float(latent_loss(torch.zeros(1, 2), 7 * z)) == pytest.approx(1)


def test_feature_loss_is_relative_to_each_layer():
    true = [torch.full((1, 2, 4, 4), 4.0), torch.full((1, 1, 8, 8), -0.5)]
    found = [torch.full((1, 2, 4, 4), 5.0), torch.full((1, 1, 8, 8), 0.0)]
    assert float(feature_loss(found, true)) == pytest.approx((0.25 + 1.0) / 2)


def test_noise_loss_weighs_layers_by_their_strength():
    true = [torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 8, 8)]
    found = [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 8, 8), 2.0)]
    assert float(noise_loss(found, true, torch.tensor([-3.0, 1.0]))) == pytest.approx((3 * 1 + 1 * 4) / 4)
    assert float(noise_loss(found, true, torch.zeros(2))) == 0


def test_strengths_are_those_of_the_convolutions_coarse_to_fine():
    generator = Generator(CONFIG)
    for k, name in enumerate(n for n, _ in generator.named_parameters() if n.endswith("noise_strength")):
        generator.get_parameter(name).data.fill_(float(k))
    strengths = noise_strengths(generator)
    assert strengths.tolist() == list(range(len(generator.noise_shapes())))
    assert generator.blocks[1].convolutions[0].noise_strength.item() == 1


def test_a_step_trains_the_inverter_alone(renderer, tiny_model, few):
    task = InverterTask(SMALL, renderer, [(tiny_model, 1.0)], portraits=FakePortraits(24, 16))
    before = {name: value.clone() for name, value in renderer.generator.state_dict().items()}
    figures = task.step(0)
    expected = {"loss", "latent", "style", "features", "noise", "image", "perceptual"}
    expected |= {"photo_image", "photo_perceptual"}
    assert set(figures) == expected
    weights = asdict(SMALL.weights)
    total = sum(weights[name.removeprefix("photo_")] * figures[name] for name in expected - {"loss"})
    assert figures["loss"] == pytest.approx(total, rel=1e-4)
    for name, value in renderer.generator.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in renderer.generator.parameters())
    assert all(parameter.grad is not None for parameter in task.network.parameters())
    # Fits over codes leave the offset out, and so does every other step.
    found = task.network(torch.zeros(1, 3, 16, 16))._replace(offset=torch.ones(1, 8))
    assert task._shown(found, 0).offset.all()
    assert not task._shown(found, 1).offset.any()


def test_the_geometry_of_portraits_is_made_in_full_precision(renderer, tiny_model, few, monkeypatch):
    task = InverterTask(SMALL, renderer, [(tiny_model, 1.0)], portraits=FakePortraits(24, 16))
    monkeypatch.setattr(task, "_autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    made, rows = [], task._photo_rows

    def photo_rows(wanted):
        made.append(torch.is_autocast_enabled("cpu"))
        return rows(wanted)

    monkeypatch.setattr(task, "_photo_rows", photo_rows)
    task.step(0)
    assert made == [False]


def test_an_inverter_is_trained_further_unless_told_otherwise(renderer, tiny_model):
    renderer.inverter = Inverter(CONFIG)
    go_on = InverterTask(SMALL, renderer, [(tiny_model, 1.0)])
    fresh = InverterTask(SMALL, renderer, [(tiny_model, 1.0)], fresh=True)
    weight = renderer.inverter.from_rgb.weight
    assert torch.equal(go_on.network.from_rgb.weight, weight)
    assert not torch.equal(fresh.network.from_rgb.weight, weight)
    assert go_on.settings.paired == 0


def test_the_codes_of_one_batch_can_be_learnt(renderer, tiny_model, few):
    weights = InverterWeights(features=0, noise=0, image=0, perceptual=0)
    settings = replace(SMALL, steps=1000, batch=4, rate=0.5, weights=weights)
    task = InverterTask(settings, renderer, [(tiny_model, 1.0)])
    losses = [task.step(0)["latent"] for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_pool_trains_the_last_layers_alone(renderer, tiny_model, few):
    renderer.inverter = Inverter(CONFIG)
    settings = replace(SMALL, pool=20)
    task = InverterTask(settings, renderer, [(tiny_model, 1.0)], portraits=FakePortraits(24, 16))
    assert task.pool is not None
    assert len(task.pool.statistics) == 24  # whole batches are drawn
    # The same pictures as the network sees them, and from where the training starts.
    scene, z, noise = task._draw([SMALL.seed, 1, 2], 8)
    found = task.network(renderer.generator(scene.maps, z, params=scene.params, noise=noise).image)
    for ours, theirs in zip(task.network.answer(task.pool.statistics[8:16]), found[:2], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not found.offset.any()
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    assert set(task.step(0)) == {"loss", "style", "photo_image", "photo_perceptual"}
    task.step(1)  # offsets start at 0: their first layers move once the last one has
    for name, value in task.network.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith(("mlp", "offset")), name


def test_the_styles_of_a_pool_are_learnt(renderer, tiny_model):
    renderer.inverter = Inverter(CONFIG)
    settings = replace(SMALL, steps=1000, pool=16, batch=16, rate=0.02)
    task = InverterTask(settings, renderer, [(tiny_model, 1.0)])
    losses = [task.step(step)["style"] for step in range(150)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_a_pool_needs_an_inverter_to_start_from(renderer, tiny_model):
    with pytest.raises(TrainingError, match="train one without a pool first"):
        InverterTask(replace(SMALL, pool=8), renderer, [(tiny_model, 1.0)])


def test_a_pool_needs_the_loss_of_the_style(renderer, tiny_model):
    renderer.inverter = Inverter(CONFIG)
    settings = replace(SMALL, pool=8, weights=InverterWeights(style=0.0))
    with pytest.raises(TrainingError, match="its weight must be positive"):
        InverterTask(settings, renderer, [(tiny_model, 1.0)])


@pytest.mark.slow
@pytest.mark.parametrize("pool", [0, 16])
def test_training_resumes_bit_by_bit(renderer, tiny_model, few, tmp_path, pool):
    renderer.inverter = Inverter(CONFIG)

    def task() -> InverterTask:
        settings = replace(SMALL, pool=pool)
        return InverterTask(settings, renderer, [(tiny_model, 1.0)], portraits=FakePortraits(24, 16))

    config = LoopConfig(tmp_path / "a", 6, log_every=1, evaluate_every=3, checkpoint_every=3)
    whole = task()
    train(whole, config, progress=False)
    half = replace(config, out=tmp_path / "b", steps=3)
    train(task(), half, progress=False)
    again = task()
    train(again, replace(half, steps=6), progress=False)
    for name, value in whole.average.state.items():
        assert torch.equal(value, again.average.state[name]), name
    again.export(tmp_path / "inverter.safetensors", {"steps": 6})
    network = load_network(tmp_path / "inverter.safetensors", "inverter")
    assert network.config == CONFIG


@pytest.mark.parametrize(
    "changes", [{"condition": "depth"}, {"condition": "params", "params_dim": 13, "params_shape": 6}, {"nim": "none"}]
)
def test_ablations_of_the_generator_train_too(changes, tiny_model, few):
    generator = Generator(replace(CONFIG, **changes)).eval()
    task = InverterTask(SMALL, Renderer(generator), [(tiny_model, 1.0)])
    assert math.isfinite(task.step(0)["loss"])
    assert "mean_image" in task.evaluate(1)


def test_too_few_portraits_are_refused(renderer, tiny_model):
    with pytest.raises(TrainingError, match="more than 1024 are needed"):
        InverterTask(SMALL, renderer, [(tiny_model, 1.0)], portraits=FakePortraits(16, 16))
