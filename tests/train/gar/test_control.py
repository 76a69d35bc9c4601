"""A minute of training on the CPU, with the networks that ship: geometry takes hold of the pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from garfast.landmarks.embedded import load_networks
from garfast.morphable import load_model
from garfast.networks.renderer import SHIPPED, load_network
from garfast.train.gar.presets import PRESETS, LossWeights
from garfast.train.gar.task import GarTask, Teachers
from garfast.train.portraits import Portraits, draw_portraits


@pytest.mark.slow
def test_a_minute_lowers_the_normal_error_and_raises_control(tmp_path):
    model = load_model("builtin")
    draw_portraits(tmp_path, 48, 32, 2, [(model, 1.0)], progress=False)
    tiny = PRESETS["tiny-64"]
    small = {"size": 32, "channel_base": 1024, "channel_max": 32}
    settings = replace(
        tiny,
        generator=replace(tiny.generator, **small, z_dim=32, style_dim=32),
        discriminator=replace(tiny.discriminator, **small),
        weights=LossWeights(identity=0, normal=10, landmark=4, r1=1, path_length=0),
        paired=0,
        warmup=0,
        decay=0.0,
        rate=0.004,
        half_life=100.0,
        normals_size=32,
        ada_target=None,
        bfloat16=False,
    )
    normals = load_network(SHIPPED / "normals.safetensors", "normals")
    task = GarTask(
        settings,
        Portraits(tmp_path, [model]),
        [(model, 1.0)],
        Teachers(normals=normals, landmarks=load_networks().marker),
    )
    before = task.evaluate(0)
    for step in range(100):
        task.step(step)
    after = task.evaluate(100)
    assert after["normal_error"] < 0.88 * before["normal_error"]
    assert after["landmark_spread"] < 0.8 * before["landmark_spread"]
