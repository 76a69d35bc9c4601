"""Benchmark cases run on every backend, and results survive being saved and read."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner

from garfast import ops
from garfast.bench import report, timing
from garfast.bench.cases import mesh_cases, modulated_conv2d_cases, noise_bias_act_cases, sphere, upfirdn2d_cases
from garfast.bench.layers import GENERATOR_256, Layer
from garfast.cli import main
from garfast.errors import GarfastError
from garfast.ops import _dispatch


def test_layers_are_those_of_a_256_generator():
    assert len(GENERATOR_256) == 13
    assert [layer.name for layer in GENERATOR_256[-2:]] == ["256 up 256>128", "256 conv 128>128"]
    # 19.3 GFLOP and, for a batch of 8 in two bytes, 272 MB: the last layer of the performance table.
    assert GENERATOR_256[-1].flops(1) == pytest.approx(19.3e9, rel=0.01)
    assert GENERATOR_256[-1].min_bytes(8, 2) == pytest.approx(272e6, rel=0.01)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_every_dense_case_runs(impl):
    cases = modulated_conv2d_cases("cpu", torch.float32, [1], [Layer(8, 6, 4, 1), Layer(8, 6, 4, 2)])
    cases += noise_bias_act_cases("cpu", torch.float32, [1], [(3, 5)])
    for case in cases:
        case.make(impl)()
    assert len(upfirdn2d_cases("cpu", torch.float32, [1])) == 4


def test_mesh_cases_have_fifteen_thousand_triangles():
    vertices, triangles = sphere(86, 87)
    assert len(triangles) == pytest.approx(15_000, rel=0.01)
    assert int(triangles.max()) == len(vertices) - 1
    for case in mesh_cases("cpu", [1]):
        if case.direction == "forward":
            case.make("auto")()


def test_measure_takes_turns_and_counts():
    order = []
    candidates = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timings = timing.measure(candidates, seconds=60.0, max_runs=3)
    assert order[-12:] == ["a", "a", "b", "b"] * 3  # brief ones run once more, uncounted, before each run
    assert timings["a"].runs == 3
    assert timings["a"].p20 <= timings["a"].median <= timings["a"].p80


def test_results_survive_a_round_trip(tmp_path):
    timings = {"reference": timing.Timing(2.0, 1.0, 3.0, 5), "kernel": timing.Timing(1.0, 0.5, 1.5, 5)}
    row = report.Row("noise_bias_act", "3x5x5", 1, "float32", "forward", 0.0, 100.0, timings)
    ceiling = timing.Ceiling(1000.0, {"float32": 1e9})
    assert row.speedup == 2.0
    assert row.fraction_of_ceiling(ceiling) == pytest.approx(0.1)
    facts = report.machine("cpu")
    written = report.save(tmp_path, [row], ceiling, facts)
    assert all(path.stat().st_size > 0 for path in written)
    assert report.load(tmp_path / "results.json") == ([row], ceiling, facts)
    (tmp_path / "results.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(GarfastError, match="not a benchmark result"):
        report.load(tmp_path / "results.json")


def test_a_roofline_is_drawn_of_what_computes(tmp_path):
    pytest.importorskip("matplotlib")
    once = {name: timing.Timing(1.0, 1.0, 1.0, 5) for name in ("reference", "kernel")}
    rows = [report.Row("modulated_conv2d", "4x4", 1, "float32", "forward", flops, 100.0, once) for flops in (0.0, 1e9)]
    facts, ceiling = report.machine("cpu"), timing.Ceiling(1000.0, {"float32": 1e9})
    for row, drawn in zip(rows, (False, True), strict=True):
        folder = tmp_path / str(drawn)
        folder.mkdir()
        written = report.save(folder, [row], ceiling, facts)
        assert (folder / "roofline.png" in written) == drawn


def test_table_shows_both_definitions_of_the_ceiling_and_the_compiled_reference():
    once = {"reference": 4.0, "kernel": 1.0, "clone": 0.8, "compiled": 3.0}
    timings = {name: timing.Timing(value, value, value, 5) for name, value in once.items()}
    row = report.Row("noise_bias_act", "3x5x5", 1, "float32", "forward", 0.0, 500.0, timings)
    line = report.table([row], timing.Ceiling(1000.0, {})).splitlines()[2]
    assert line.split()[-4:] == ["4.00x", "3.00x", "50%", "80%"]


def test_clone_is_measured_for_the_forward_alone():
    forward, both = noise_bias_act_cases("cpu", torch.float32, [1], [(3, 5)])
    assert both.make_clone is None
    assert forward.make_clone is not None
    assert forward.make_clone()().shape == (1, 3, 5, 5)


def test_geometric_mean():
    assert report.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert math.isnan(report.geometric_mean([]))


def test_command_refuses_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = CliRunner().invoke(main, ["bench", "--device", "cuda"])
    assert result.exit_code == 1
    assert "there is no device 'cuda'" in result.output


def test_every_compilation_counts(monkeypatch):
    compilations = []

    def backend(module, inputs):
        compilations.append(module)
        return module.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=backend, **options))

    def adder(x):
        return lambda: x + 1

    for size in range(2, 14):
        timing.compiled(adder(torch.ones(size)), fullgraph=True)()
    assert len(compilations) == 12


def test_the_reference_computes_in_its_own_dtype_only_where_speeds_are_compared():
    dtypes = []

    def run(x: torch.Tensor) -> torch.Tensor:
        y = ops.noise_bias_act(x, noise=x[:, :1], noise_strength=0.1, bias=torch.ones(3), impl="reference")
        dtypes.append(_dispatch.accumulator(x.dtype))
        return y

    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact, own = run(x), timing.as_in_networks(lambda: run(x))()
    assert dtypes == [torch.float32, torch.bfloat16]
    assert exact.dtype == own.dtype == torch.bfloat16
    assert 0 < (exact.float() - own.float()).abs().max() < 0.1
    assert torch.equal(run(x), exact)
    single = x.float()
    assert torch.equal(timing.as_in_networks(lambda: run(single))(), run(single))
