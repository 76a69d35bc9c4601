"""The refinement: one iteration of its joint stage, and all of it, with the kernels and with the reference operators.

With the renderer that comes with the package, else with a random one of that size. Goal: 30 s for the full fit of one
photograph on two cores.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from garfast.errors import WeightsFileError
from garfast.fit.inversion import invert
from garfast.fit.refine import can_capture, refine
from garfast.fit.refine_config import preset, scaled
from garfast.fit.refine_descent import Descent, captured
from garfast.fit.refine_problem import Problem, Variables, frozen
from garfast.fit.refine_state import RefineState, RefineTarget
from garfast.morphable import MorphableModel, OrthographicCamera, Pose, load_model
from garfast.networks.generator import Generator, GeneratorConfig
from garfast.networks.inverter import Inverter
from garfast.networks.normal_estimator import NormalEstimator
from garfast.networks.perceptual import PerceptualNet
from garfast.networks.renderer import Renderer, load_renderer
from garfast.ops import rasterize_normals

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMPLEMENTATIONS = ("auto", "reference")


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load_model("builtin").to(DEVICE)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def renderer(request: pytest.FixtureRequest) -> Renderer:
    try:
        return load_renderer(device=DEVICE, impl=request.param)
    except WeightsFileError:
        torch.manual_seed(0)
        config = GeneratorConfig(
            size=128, z_dim=128, style_dim=128, mapping_layers=4, channel_base=4096, channel_max=128, nim_channels=16
        )
        generator, inverter = Generator(config, impl=request.param), Inverter(config, impl=request.param)
        networks = Renderer(generator, inverter, NormalEstimator(), None, PerceptualNet()).to(DEVICE)
        for network in networks.networks().values():
            network.eval().requires_grad_(False)
        return networks


def faces(model: MorphableModel, renderer: Renderer, batch: int) -> tuple[RefineTarget, RefineState]:
    """Pictures that G drew of random faces, and a start near them."""
    size = renderer.size
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    shape, exp = random(batch, model.num_shape), 0.3 * random(batch, model.num_exp).abs()
    pose = Pose(0.1 * random(batch, 3), torch.zeros(batch, 3, device=DEVICE))
    scale = torch.full((batch,), size / 230, device=DEVICE)
    camera = OrthographicCamera(scale, torch.full((batch, 2), size / 2, device=DEVICE), (size, size))
    vertices = pose.apply(model.evaluate(shape, exp))
    levels = rasterize_normals(
        vertices, model.triangles, camera.ndc(), renderer.generator.config.resolutions, adjacency=model.adjacency
    )
    z = random(batch, renderer.generator.config.z_dim)
    with torch.no_grad():
        image = renderer.generator([level.normals for level in levels], z).image
    landmarks = camera.project(model.landmarks(vertices))
    weights = torch.ones(batch, 68, device=DEVICE)
    target = RefineTarget(image, landmarks, weights, None, levels[-1].normals, levels[-1].mask)
    w, z, noise = invert(renderer, image)
    return target, RefineState(0.5 * shape, 0.5 * exp, pose, camera, w, z, noise)


@pytest.mark.parametrize("batch", [1, 4])
def test_iteration(benchmark: Any, model: MorphableModel, renderer: Renderer, batch: int) -> None:
    target, start = faces(model, renderer, batch)
    config = preset("default")
    stage = config.stages[-1]
    impl = renderer.generator.blocks[0].to_rgb.impl
    with frozen(renderer):
        problem = Problem(model, renderer, target, start, config, str(impl))
        variables = Variables.of(start, config.latent)
        leaves = {name: getattr(variables, name) for name in stage.optimise}
        descent = Descent(leaves, [lambda: problem.losses(variables, stage.weights)], stage, batch)
        descent.iterate()
        step = captured(descent) if can_capture(problem) else descent.iterate

        def iterate() -> None:
            step()
            if DEVICE == "cuda":
                torch.cuda.synchronize()

        benchmark.pedantic(iterate, rounds=7, warmup_rounds=2)
    benchmark.extra_info["size"] = renderer.size


@pytest.mark.slow
def test_refinement(benchmark: Any, model: MorphableModel, renderer: Renderer) -> None:
    """A fifth of the default's steps, so that the reference operators come to an end."""
    target, start = faces(model, renderer, 1)
    impl = str(renderer.generator.blocks[0].to_rgb.impl)
    config = scaled(preset("default"), 0.2)
    benchmark.pedantic(lambda: refine(model, renderer, target, start, config, impl=impl), rounds=3)
    benchmark.extra_info["steps"] = {stage.name: stage.steps for stage in config.stages}
