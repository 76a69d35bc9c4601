"""rasterize_normals, pyramid 4..256, against the reference and a scalar per-triangle C++ loop run once per size.

The mesh is the ICT face (15,000 triangles) where GARFAST_ICT or ../shared/data has it, else the built-in face. The loop
(scalar_raster.cpp, compiled by g++ when this runs) makes triangle ids and barycentrics only; rasterize_normals also
computes vertex normals and interpolates. Goal: on two threads (OMP_NUM_THREADS=2) 3 times as fast as the loop on one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from garfast.ops import VertexAdjacency, rasterize_normals

ROOT = Path(__file__).resolve().parent.parent
SIZES = [4, 8, 16, 32, 64, 128, 256]


class Scene(NamedTuple):
    vertices: Tensor
    triangles: Tensor
    camera: Tensor
    adjacency: VertexAdjacency


@pytest.fixture(scope="module")
def scene() -> Scene:
    path = Path(os.environ.get("GARFAST_ICT", ROOT.parent / "shared" / "data" / "ict_face.npz"))
    if path.is_file():
        data = np.load(path)
        vertices, triangles = torch.from_numpy(data["vertices"]), torch.from_numpy(data["triangles"])
    else:
        from garfast.morphable import load_model

        model = load_model("builtin")
        vertices, triangles = model.mean, model.triangles
    low, high = vertices.amin(0), vertices.amax(0)
    scale = 1.8 / (high - low).max()
    vertices = ((vertices - (low + high) / 2) * scale)[None].contiguous()
    return Scene(vertices, triangles, torch.tensor([1.0, 1, 0, 0]), VertexAdjacency.build(triangles, vertices.shape[1]))


@pytest.fixture(scope="module")
def scalar_loop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scene, int], list[np.ndarray]]:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    library = tmp_path_factory.mktemp("scalar") / "scalar_raster.so"
    source = Path(__file__).with_name("scalar_raster.cpp")
    subprocess.run(["g++", "-O3", "-fopenmp", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).scalar_raster
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    integer = ctypes.c_int
    function.argtypes = [pointer, size, pointer, size, pointer, integer, integer, pointer, pointer, pointer, integer]
    images = {
        n: (np.empty((n, n), np.int32), np.empty((3, n, n), np.float32), np.empty((n, n), np.float32)) for n in SIZES
    }

    def run(scene: Scene, threads: int) -> list[np.ndarray]:
        mesh = (scene.vertices.data_ptr(), scene.vertices.shape[1], scene.triangles.data_ptr(), len(scene.triangles))
        for n, (ids, barycentrics, depth) in images.items():
            outputs = (ids.ctypes.data, barycentrics.ctypes.data, depth.ctypes.data)
            function(*mesh, scene.camera.data_ptr(), n, n, *outputs, threads)
        return [ids for ids, _, _ in images.values()]

    return run


@pytest.mark.benchmark(group="forward, pyramid 4..256")
@pytest.mark.parametrize("threads", [1, torch.get_num_threads()], ids=["one-thread", "all-threads"])
def test_scalar_loop(
    benchmark: Any, scene: Scene, scalar_loop: Callable[[Scene, int], list[np.ndarray]], threads: int
) -> None:
    ids = benchmark.pedantic(scalar_loop, args=(scene, threads), rounds=50, iterations=5, warmup_rounds=5)
    ours = rasterize_normals(scene.vertices, scene.triangles, scene.camera, SIZES, impl="cpu")[-1].triangle_ids[0]
    assert (ours.numpy() == ids[-1]).mean() > 0.999


@pytest.mark.benchmark(group="forward, pyramid 4..256")
@pytest.mark.parametrize("impl", ["cpu", "reference"])
@pytest.mark.parametrize("antialias", [False, True], ids=["", "antialias"])
def test_forward(benchmark: Any, scene: Scene, impl: str, antialias: bool) -> None:
    options = {"adjacency": scene.adjacency, "antialias": antialias, "impl": impl}
    arguments = (scene.vertices, scene.triangles, scene.camera, SIZES)
    rounds = {"rounds": 50, "iterations": 5} if impl == "cpu" else {"rounds": 3}
    benchmark.pedantic(lambda: rasterize_normals(*arguments, **options), warmup_rounds=5, **rounds)


@pytest.mark.benchmark(group="forward and backward, pyramid 4..256")
@pytest.mark.parametrize("impl", ["cpu", "reference"])
@pytest.mark.parametrize("antialias", [False, True], ids=["", "antialias"])
def test_forward_and_backward(benchmark: Any, scene: Scene, impl: str, antialias: bool) -> None:
    leaf = scene.vertices.clone().requires_grad_()
    options = {"adjacency": scene.adjacency, "antialias": antialias, "impl": impl}

    def run() -> None:
        leaf.grad = None
        outputs = rasterize_normals(leaf, scene.triangles, scene.camera, SIZES, **options)
        torch.autograd.backward([out.normals for out in outputs], [out.normals.detach() for out in outputs])

    benchmark.pedantic(run, rounds=30 if impl == "cpu" else 3, warmup_rounds=1)
