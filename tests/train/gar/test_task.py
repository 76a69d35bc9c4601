"""The renderer's training step: what it updates, that it resumes bit by bit, and that configuration reaches it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from garfast.errors import ArgumentError, TrainingError, WeightsFileError
from garfast.networks.identity import IdentityConfig, IdentityNet
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.renderer import load_renderer
from garfast.train.gar.grow import start_from
from garfast.train.gar.measure import picture_distance
from garfast.train.gar.presets import PRESETS, override, preset_settings
from garfast.train.gar.report import Reporter
from garfast.train.gar.task import GarTask
from garfast.train.loop import CHECKPOINT, LoopConfig, train
from garfast.train.portraits import HELD_OUT
from tests.tiny_face import make_tiny_model
from tests.train.fake_portraits import FakePortraits as Portraits
from tests.train.gar.conftest import make_task, tiny_settings

NAMES = {"g_adversarial", "g_normal", "g_landmark", "g_reconstruction", "g_spread", "d_adversarial", "loss"}


def same(first, second) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_a_step_moves_every_network_and_reports_every_loss(task):
    before = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in networks(task).items()}
    task.step(1)
    # The maps' heads start at 0, so what is before them moves from the second step on.
    scalars = task.step(0)
    assert NAMES | {"d_r1", "path_length", "ada"} <= scalars.keys()
    assert all(torch.isfinite(torch.tensor(list(scalars.values()))))
    for name, network in networks(task).items():
        still = [k for k, v in network.named_parameters() if torch.equal(v, before[name][k])]
        # V's noise heads and offset are trained later, on G's pictures (equation 11).
        assert all(k.startswith(("noise_heads", "offset")) for k in still), name
    assert all(p.grad is None for p in task.teachers.normals.parameters())


def networks(task):
    return {"generator": task.generator, "discriminator": task.discriminator, "inverter": task.inverter}


def test_the_adversarys_rate_may_be_0():
    task = make_task(tiny_settings(adversary_rate=0.0))
    before = {k: v.clone() for k, v in task.discriminator.state_dict().items()}
    task.step(0)
    assert same(dict(task.discriminator.state_dict()), before)


@pytest.mark.parametrize(("changes", "group"), [({}, 2), ({"batch": 16}, 4), ({"accumulate": 2}, 1)])
def test_pictures_of_one_person_share_no_minibatch_deviation(changes, group):
    # A part has four pictures of each person, one after the other; a group's members are a part over the group apart.
    assert make_task(tiny_settings(**changes)).discriminator.config.group_size == group


def test_the_first_portraits_are_left_out_as_in_other_trainings():
    task = make_task()
    for portraits, first in ((Portraits(HELD_OUT + 1, 16), HELD_OUT), (Portraits(HELD_OUT, 16), 0)):
        args = task.settings, portraits, [(make_tiny_model(), 1.0)], task.teachers
        assert GarTask(*args, portraits=portraits).first == first


def test_warmup_leaves_the_discriminator_alone():
    task = make_task(tiny_settings(warmup=5))
    before = {k: v.clone() for k, v in task.discriminator.state_dict().items()}
    scalars = task.step(0)
    assert same(dict(task.discriminator.state_dict()), before)
    assert scalars.keys() == {"g_reconstruction", "g_spread", "loss"}


def test_an_adversary_may_look_at_features_and_at_portraits_drawn_again():
    weights = replace(tiny_settings().weights, perceptual=1.0, redrawn=1.0)
    settings = tiny_settings(projected=True, ada_target=None, weights=weights)
    with pytest.raises(TrainingError, match="give that network"):
        make_task(settings)
    network = PerceptualNet(PerceptualConfig(size=16, widths=(4, 4, 4, 4), depths=(1, 1, 1, 1)))
    task = make_task(settings, perceptual=network)
    before = {k: v.clone() for k, v in task.discriminator.state_dict().items()}
    scalars = task.step(0)
    assert {"g_redrawn", "g_perceptual", "g_adversarial", "d_r1"} <= scalars.keys()
    assert not same(dict(task.discriminator.state_dict()), before)
    # What both networks saw was computed once; the loss is what two looks would have given.
    both = make_task(settings, perceptual=network)
    both._look = lambda images: both.discriminator.look(images.clone())
    both.ada = SimpleNamespace(observe=lambda logits: None, update=lambda: 0.0)
    assert both.step(0)["g_perceptual"] == pytest.approx(scalars["g_perceptual"], rel=1e-5)


def test_resumes_bit_by_bit(tmp_path):
    whole = make_task()
    train(whole, LoopConfig(tmp_path / "whole", 3, checkpoint_every=100), progress=False)
    first = make_task()
    train(first, LoopConfig(tmp_path / "parts", 2, checkpoint_every=100), progress=False)
    second = make_task()
    train(second, LoopConfig(tmp_path / "parts", 3, checkpoint_every=100), progress=False)
    assert same(whole.state_dict(), second.state_dict())


def test_accumulated_parts_make_one_step():
    settings = tiny_settings(accumulate=2, ada_target=None)
    scalars = make_task(settings).step(0)
    assert scalars.keys() >= NAMES


@pytest.mark.parametrize(
    "texts",
    [("generator.nim=concat",), ("generator.nim=scale",), ("generator.nim=none",), ("generator.condition=depth",)],
)
def test_ablations_of_the_condition(texts):
    task = make_task(override(tiny_settings(), {}, texts))
    task.step(0)
    assert task.renderer().generator.config == task.settings.generator


def test_condition_on_parameters():
    model = make_task().sampler.models[0]
    count = model.num_shape + model.num_exp + 3
    texts = ("generator.condition=params", f"generator.params_dim={count}")
    task = make_task(override(tiny_settings(), {}, texts))
    assert "path_length" in task.step(0)
    assert task.renderer().generator.config.params_shape == model.num_shape
    with pytest.raises(ArgumentError, match="params_dim"):
        override(tiny_settings(), {}, texts[:1])
    with pytest.raises(TrainingError, match=f"set generator.params_dim={count}, with 3 for the rotation"):
        make_task(override(tiny_settings(), {}, (texts[0], "generator.params_dim=7")))


def test_weight_zero_switches_a_loss_off():
    scalars = make_task(override(tiny_settings(), {}, ("weights.normal=0", "weights.r1=0"))).step(0)
    assert "g_normal" not in scalars
    assert "d_r1" not in scalars


def test_exported_weights_load_and_render(task, tmp_path):
    task.step(0)
    task.export(tmp_path, {"steps": 1})
    renderer = load_renderer(tmp_path)
    assert renderer.notes == {"steps": 1}
    assert renderer.inverter is not None
    z = torch.randn(2, 8)
    maps = [torch.randn(2, 3, r, r) for r in (4, 8, 16)]
    wanted = task.renderer().generator(maps, z, noise="zero").image
    torch.testing.assert_close(renderer.generator(maps, z, noise="zero").image, wanted, atol=5e-3, rtol=0)


def test_evaluation_and_samples(task, tmp_path):
    task.reporter = Reporter(tmp_path, tensorboard=False)
    figures = task.evaluate(0)
    assert {"contrast", "normal_error", "landmark_spread", "reconstruction"} <= figures.keys()
    assert 0 < figures["normal_error"] < 180
    assert (tmp_path / "samples" / "sheet-0000000.png").is_file()


def test_distance_from_photographs_is_tracked_where_a_network_compares(task):
    torch.manual_seed(0)
    task.teachers = replace(task.teachers, identity=IdentityNet(IdentityConfig(16, (4, 4, 8, 8), embedding=8)).eval())
    figures = task.evaluate(0)
    assert figures["frechet"] > 0
    assert task.evaluate(0)["frechet"] == figures["frechet"]

    class Copier(torch.nn.Module):
        config = task.settings.generator
        shown = iter(task.pictures(task.portraits, range(24)).split(16))

        def forward(self, *_, **__):
            return SimpleNamespace(image=next(self.shown))

    renderer = task.renderer()
    renderer.generator = Copier()
    assert picture_distance(task, renderer) == pytest.approx(0, abs=1e-6)


def test_grows_to_twice_the_size(task, tmp_path):
    train(task, LoopConfig(tmp_path, 1), progress=False)
    settings = tiny_settings()
    large = make_task(
        replace(
            settings,
            generator=replace(settings.generator, size=32),
            discriminator=replace(settings.discriminator, size=32),
        )
    )
    assert start_from(large, tmp_path / CHECKPOINT) > 50
    small, grown = task.generator.state_dict(), large.generator.state_dict()
    assert all(torch.equal(grown[name], value) for name, value in small.items())
    # The new first layers aside, V and D are those of the smaller run.
    assert torch.equal(large.inverter.layers[2].weight, task.inverter.layers[0].weight)
    assert torch.equal(large.discriminator.blocks[1].first.weight, task.discriminator.blocks[0].first.weight)
    assert "g_adversarial" in large.step(0)


def test_going_on_keeps_the_mean_path_lengths(task, tmp_path):
    train(task, LoopConfig(tmp_path, 1), progress=False)
    other = make_task(tiny_settings(seed=1))
    start_from(other, tmp_path / CHECKPOINT)
    assert float(task.path_length.mean_w) > 0
    assert torch.equal(other.path_length.mean_w, task.path_length.mean_w)


def test_going_on_from_finished_weights(task, tmp_path):
    task.step(0)
    task.export(tmp_path, {})
    other = make_task(tiny_settings(seed=1))
    start_from(other, tmp_path)
    finished = load_renderer(tmp_path)
    assert same(dict(other.generator.state_dict()), dict(finished.generator.state_dict()))
    assert same(dict(other.average.state), dict(finished.generator.state_dict()))
    assert same(dict(other.inverter.state_dict()), dict(finished.inverter.state_dict()))
    assert "g_adversarial" in other.step(0)
    # The averages are old ones: one step hardly moves them.
    moved = {name: (value - finished.generator.state_dict()[name]) for name, value in other.average.state.items()}
    raw = other.generator.state_dict()
    for name, value in finished.generator.state_dict().items():
        most = (1 - other.average.decay) * (raw[name] - value).abs().max()
        assert moved[name].abs().max() <= 1.01 * most + 1e-6, name


def test_growing_from_something_else(task, tmp_path):
    for content in (b"no", b""):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(TrainingError, match="not the checkpoint"):
            start_from(task, tmp_path / "x.pt")
    torch.save({"task": {"generator": 1, "average": {}}}, tmp_path / "x.pt")
    with pytest.raises(TrainingError, match="not the checkpoint"):
        start_from(task, tmp_path / "x.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsFileError, match="no renderer weights"):
        start_from(task, tmp_path / "empty")


def test_settings_that_only_make_sense_together():
    settings = override(
        preset_settings("synth-128"),
        {},
        ("generator.condition=params", "generator.params_dim=60", "generator.size=64", "discriminator.size=64"),
    )
    assert (settings.generator.params_dim, settings.discriminator.size) == (60, 64)
    assert override(preset_settings("ffhq-256"), {}, ("weights.reconstruction=5", "paired=8")).paired == 8


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("paired=0",), "need paired > 0"),
        (("paired=6", "accumulate=4", "batch=16"), "multiple of accumulate = 4"),
        (("paired=2", "accumulate=2"), "paired >= 2"),
        (("weights.reconstruction=0", "weights.perceptual=0", "weights.spread=0"), "set warmup=0"),
    ],
)
def test_settings_without_a_loss_or_a_partner_are_refused(changes, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        override(preset_settings("synth-128"), {}, changes)


def test_exchanged_faces_keep_their_pose_alone(monkeypatch):
    task = make_task(tiny_settings(exchanged=True))
    (single,) = task.sampler.sample([1], 1, 1)
    both = {name: torch.cat([getattr(single, name), -getattr(single, name)]) for name in ("shape", "exp", "camera")}
    pair = single._replace(rows=torch.tensor([1, 2]), **both)
    told = []
    monkeypatch.setattr(task.portraits, "geometry", lambda rows: [pair, single])
    monkeypatch.setattr(task, "scene", lambda groups, count: told.extend(groups))
    with pytest.raises(AttributeError):  # nothing is drawn of no scene
        task._paired_losses(0, 0, [])
    for name in ("shape", "exp"):
        assert torch.equal(getattr(told[0], name), getattr(pair, name).flip(0))
        assert not getattr(told[1], name).any()
    assert told[0].pose is pair.pose
    assert told[0].camera is pair.camera


def test_losses_of_weight_0_draw_no_portraits(monkeypatch):
    weights = replace(tiny_settings().weights, reconstruction=0, perceptual=0, spread=0)
    task = make_task(tiny_settings(weights=weights))
    monkeypatch.setattr(task, "_paired_losses", None)
    assert "g_reconstruction" not in task.step(1)


def test_the_exported_mean_style_is_the_mean_of_styles(task):
    task.step(0)
    mapping = task.renderer().generator.mapping
    styles = mapping(torch.randn(20_000, task.settings.generator.z_dim, generator=torch.Generator().manual_seed(3)))
    spread = styles.std(0) / 8192**0.5
    assert ((mapping.mean_w - styles.mean(0)).abs() < 6 * spread + 1e-6).all()


def test_a_network_without_a_configuration_stays_out_of_the_folder(task, tmp_path):
    task.teachers.identity = torch.nn.Flatten()
    task.export(tmp_path, {})
    assert not (tmp_path / "identity.safetensors").exists()
    assert load_renderer(tmp_path).identity is None


def test_presets_and_overrides():
    assert set(PRESETS) == {"tiny-64", "synth-128", "ffhq-256", "ffhq-1024"}
    settings = override(preset_settings("ffhq-256"), {"seed": 3}, ("weights.normal=0", "prior.yaw=0.3", "mirror=false"))
    assert (settings.seed, settings.weights.normal, settings.prior.yaw, settings.mirror) == (3, 0.0, 0.3, False)
    assert (settings.weights.landmark, settings.weights.identity, settings.weights.r1) == (2.0, 1.0, 10.0)
    for text in ("weights.nothing=1", "steps=many", "steps", "steps.x=1", "mirror=perhaps", "batch=6"):
        with pytest.raises(ArgumentError):
            override(settings, {}, (text,))
    with pytest.raises(ArgumentError, match="no preset"):
        preset_settings("huge")


def test_no_portraits_for_paired_losses(task):
    from garfast.train.gar.task import GarTask

    with pytest.raises(TrainingError, match="--portraits"):
        GarTask(task.settings, task.photos, [(task.sampler.models[0], 1.0)], task.teachers)


def test_portraits_on_the_fly_serve_as_photographs_too():
    from garfast.train.gar.setup import build_task
    from garfast.train.portraits import LivePortraits
    from tests.tiny_face import make_tiny_model

    settings = override(tiny_settings(), {}, ("weights.normal=0",))
    task = build_task(settings, [(make_tiny_model(), 1.0)], data="synth")
    assert isinstance(task.portraits, LivePortraits)
    assert task.photos is task.portraits
