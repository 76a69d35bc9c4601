"""Which backend runs, and in which form an operator is called."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from garfast.errors import BackendUnavailableError
from garfast.ops import _native, upfirdn2d
from garfast.ops._dispatch import operator, resolve

_GPU = torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """Lets PyTorch show a GPU of a compute capability, with CUDA kernels that are built for ``architectures``."""

    def show(capability: tuple[int, int], architectures: str) -> None:
        properties = SimpleNamespace(major=capability[0], minor=capability[1])
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(_native, "_CUDA", SimpleNamespace(architectures=architectures))
        monkeypatch.setattr(_native, "_DRIVER_TOO_OLD", "")
        monkeypatch.setattr(_native, "_CUDA_MISSING", "")
        monkeypatch.setattr(_native, "_TRITON_MISSING", "")
        monkeypatch.setattr(_native, "_BUILT", _native.parse_architectures(architectures))

    return show


@pytest.mark.parametrize(
    ("architectures", "capability", "oldest", "runs"),
    [
        ("80-real,90", (8, 6), 0, True),  # machine code runs on later GPUs of the same major version
        ("80-real,90", (12, 0), 0, True),  # PTX on all later ones
        ("80-real,90", (7, 5), 0, False),
        ("80-real", (9, 0), 0, False),
        ("86-real", (8, 0), 0, False),
        ("90-virtual", (9, 0), 0, True),
        ("90a-real", (9, 0), 0, True),
        ("90a", (10, 0), 0, False),
        ("100f", (10, 3), 0, True),
        ("100f", (12, 0), 0, False),
        ("75,80-real", (9, 0), 0, True),
        ("75,80-real", (9, 0), 80, False),
        ("75,80-real", (8, 9), 80, True),
        ("native", (7, 5), 0, True),
        ("native", (7, 5), 80, False),
    ],
)
def test_which_gpus_a_build_runs_on(gpu, architectures, capability, oldest, runs):
    gpu(capability, architectures)
    assert _native.built_for(_GPU, oldest) is runs


@pytest.mark.parametrize(("driver", "runs"), [(12080, False), (13000, True), (0, True)])
def test_auto_passes_over_kernels_whose_runtime_is_too_new_for_the_driver(gpu, monkeypatch, driver, runs):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu((8, 0), "80-real")
    monkeypatch.setattr(_native, "_DRIVER_TOO_OLD", _native.too_old(driver, 13000))
    assert resolve("op", "auto", _GPU, has_triton=True) == ("cuda" if runs else "triton")
    if not runs:
        assert "built with CUDA 13, the driver is for CUDA 12: install a newer driver" in _native.why_not("cuda", _GPU)


def test_auto_passes_over_kernels_that_are_built_for_another_gpu(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu((7, 5), "80-real,90")
    assert resolve("op", "auto", _GPU, has_triton=True) == "triton"
    with pytest.warns(UserWarning, match="falls back to slow reference code on cuda: garfast's CUDA kernels are built"):
        assert resolve("op", "auto", _GPU) == "reference"
    sentence = "impl='cuda' cannot run here: garfast's CUDA kernels are built for 80-real,90, not for this GPU"
    with pytest.raises(BackendUnavailableError, match=re.escape(sentence)):
        resolve("op", "cuda", _GPU)
    gpu((8, 9), "80-real,90")
    assert resolve("op", "auto", _GPU, has_triton=True) == "cuda"


@pytest.mark.gpu
def test_torch_compile_sees_a_constant():
    function = torch.compile(lambda x: x + len(resolve("op", "auto", x.device)), fullgraph=True, backend="eager")
    assert function(torch.zeros(1, device=_GPU)) == len(resolve("op", "auto", _GPU))


class _Noted(TorchDispatchMode):
    """Notes which of our operators the dispatcher sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "garfast":
            self.seen.add(func.name())
        return func(*args, **(kwargs or {}))


def test_the_form_of_an_operator_that_does_no_more_than_is_needed():
    x = torch.randn(2, requires_grad=True)
    registered = torch.ops.garfast.upfirdn2d.default
    plain = operator("upfirdn2d", x.detach())
    assert plain is not registered
    with torch.no_grad():
        assert operator("upfirdn2d", x) is plain
    assert operator("upfirdn2d", None, x).__self__.__name__ == "garfast::upfirdn2d"
    inside = []
    torch.vmap(lambda row: inside.append(operator("upfirdn2d", row)) or row)(x.detach())
    with _Noted():
        inside.append(operator("upfirdn2d", x))
    inside.append(operator("upfirdn2d", x.detach().as_subclass(type("Subclass", (torch.Tensor,), {}))))
    assert inside == [registered] * 3


def test_modes_and_profilers_see_the_operators():
    x, taps = torch.randn(1, 1, 4, 4), torch.ones(2)
    with _Noted() as noted:
        upfirdn2d(x, taps, impl="cpu")
    assert noted.seen == {"garfast::upfirdn2d"}
    with torch.profiler.profile() as profile:
        upfirdn2d(x, taps, impl="cpu")
        upfirdn2d(x.requires_grad_(), taps, impl="cpu").sum().backward()
    assert sum(event.name == "garfast::upfirdn2d" for event in profile.events()) >= 3
    assert "garfast::upfirdn2dBackward" in {event.name for event in profile.events()}


def test_tracing_sees_the_operators():
    traced = torch.jit.trace(
        lambda x: upfirdn2d(x, torch.ones(2), impl="cpu"), torch.randn(1, 1, 4, 4), check_trace=False
    )
    assert "garfast::upfirdn2d" in str(traced.graph)
