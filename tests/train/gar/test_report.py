from __future__ import annotations

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError, TrainingError
from garfast.io.images import picture_array, read_image
from garfast.networks.generator import Generator, GeneratorConfig
from garfast.train.gar import report
from garfast.train.gar.report import Meter, Reporter, gallery


def _generator(**settings) -> Generator:
    torch.manual_seed(0)
    shape = {"size": 16, "z_dim": 8, "style_dim": 8, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}
    generator = Generator(GeneratorConfig(**shape, nim_channels=4, **settings), impl="reference")
    with torch.no_grad():  # geometry matters, which it does not at the start
        for name, parameter in generator.named_parameters():
            if "heads" in name:
                parameter.normal_()
    return generator


def test_rows_are_geometries_and_columns_codes():
    generator, z = _generator(), torch.randn(4, 8)
    maps = torch.randn(3, 3, 16, 16)
    grid = gallery(generator, maps, z, batch=5, gap=2)
    assert grid.shape == (3 * 18 - 2, 5 * 18 - 2, 3)
    assert grid.dtype == np.uint8
    cells = [[grid[18 * r : 18 * r + 16, 18 * c : 18 * c + 16] for c in range(5)] for r in range(3)]
    for r in range(3):
        assert np.array_equal(cells[r][0], picture_array(maps[r : r + 1])[0])
        for c in range(4):
            alone = generator(maps[r : r + 1], z[c : c + 1], noise="zero").image
            assert np.abs(picture_array(alone.detach())[0].astype(int) - cells[r][c + 1]).max() <= 1
    assert not np.array_equal(cells[0][1], cells[1][1])
    assert not np.array_equal(cells[0][1], cells[0][2])
    assert (grid[16:18] == 255).all()


def test_a_pyramid_and_given_noise():
    generator, z = _generator(), torch.randn(2, 8)
    pyramid = [torch.randn(2, 3, r, r) for r in generator.config.resolutions]
    noise = [torch.randn(shape) for shape in generator.noise_shapes()]
    assert gallery(generator, pyramid, z, noise=noise).shape == (34, 52, 3)


def test_other_conditions():
    depth = _generator(condition="depth")
    assert gallery(depth, torch.rand(2, 1, 16, 16), torch.randn(2, 8)).shape == (34, 52, 3)
    by_parameters = _generator(condition="params", params_dim=5)
    params = torch.randn(2, 5)
    assert gallery(by_parameters, None, torch.randn(2, 8), params=params).shape == (34, 34, 3)
    shown = torch.zeros(2, 3, 8, 8)
    assert gallery(by_parameters, None, torch.randn(2, 8), params=params, shown=shown).shape == (34, 52, 3)
    with pytest.raises(ArgumentError, match="make no grid"):
        gallery(depth, torch.rand(0, 1, 16, 16), torch.randn(2, 8))


def test_pictures_and_scalars_are_kept(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    with Reporter(tmp_path, tensorboard=True) as reporter:
        for step in (5, 10, 15):
            reporter.scalars(step, "train", {"loss": 1 / step})
        path = reporter.picture(15, "codes", picture)
    assert path == tmp_path / "samples" / "codes-0000015.png"
    assert np.array_equal(read_image(path), picture)
    with Reporter(tmp_path, tensorboard=True) as reporter:
        reporter.scalars(10, "train", {"loss": 7.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(5, pytest.approx(0.2)), (10, 7.0)]


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="not installed"):
        Reporter(tmp_path, tensorboard=True)
    with Reporter(tmp_path) as reporter:
        reporter.scalars(1, "train", {"loss": 1.0})
        assert reporter.picture(1, "codes", np.zeros((4, 4, 3), np.uint8)).is_file()
    assert not (tmp_path / "tensorboard").exists()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(report.distributed, "is_first", lambda: False)
    with Reporter(tmp_path) as reporter:
        reporter.scalars(1, "train", {"loss": 1.0})
        assert reporter.picture(1, "codes", np.zeros((4, 4, 3), np.uint8)) is None
    assert not list(tmp_path.iterdir())


def test_the_meter_counts_from_one_look_to_the_next(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(report.time, "perf_counter", lambda: now[0])
    meter = Meter()
    for _ in range(4):
        meter.step(8)
        now[0] += 0.5
    numbers = meter.read()
    assert numbers["images_per_second"] == 16
    assert numbers["seconds_per_step"] == 0.5
    assert 20 < numbers["peak_mib"] < 2**20
    meter.step(1)
    now[0] += 1
    assert meter.read()["images_per_second"] == 1
