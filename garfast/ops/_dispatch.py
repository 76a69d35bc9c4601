"""What every operator shares: choosing a backend, checking arguments, handing tensors to the native modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from garfast.errors import ArgumentError, BackendUnavailableError, GarfastWarning
from garfast.ops import _native

IMPLS = ("auto", "reference", "cpu", "cuda", "triton")

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SUFFIXES = {dtype: str(dtype).removeprefix("torch.") for dtype in _FLOATS}

# What 'auto' tries on a device, the fastest first.
_KERNELS = {"cpu": ("cpu",), "cuda": ("cuda",)}
_KERNELS_WITH_TRITON = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}


def resolve(op: str, impl: str, device: torch.device, has_triton: bool = False) -> str:
    """The backend that runs ``op`` on tensors of ``device``: 'reference', 'cpu', 'cuda' or 'triton'.

    'auto' takes the fastest that can run and never fails; it warns once where it has to fall back to the reference on
    a device that has a kernel. A backend asked for by name that cannot run raises.

    Raises:
        ArgumentError: ``impl`` is not one of IMPLS.
        BackendUnavailableError: the named backend cannot run here; the message says how to get it.
    """
    if impl not in IMPLS:
        raise ArgumentError(f"{op}: impl must be one of {', '.join(IMPLS)}, not {impl!r}")
    if impl == "reference":
        return impl
    if impl == "auto":
        reasons = []
        for candidate in (_KERNELS_WITH_TRITON if has_triton else _KERNELS).get(device.type, ()):
            reason = _native.why_not(candidate, device)
            if not reason:
                return candidate
            reasons.append(reason)
        if reasons:
            _warn_once(f"garfast.ops falls back to slow reference code on {device.type}: {'; '.join(reasons)}")
        return "reference"
    if impl == "triton" and not has_triton:
        raise BackendUnavailableError(f"{op} has no Triton kernel: use impl='auto'")
    if reason := _native.why_not(impl, device):
        raise BackendUnavailableError(f"{op}: impl={impl!r} cannot run here: {reason}")
    on_host = {"cpu": True, "cuda": _native.CUDA_ON_HOST, "triton": _native.TRITON_INTERPRETED}[impl]
    wanted = "cpu" if on_host else "cuda"
    if device.type != wanted:
        raise BackendUnavailableError(
            f"{op}: impl={impl!r} needs tensors on {wanted}, these are on {device.type}: move them or use impl='auto'"
        )
    return impl


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned and not torch.compiler.is_compiling():
        _warned.add(message)
        warnings.warn(message, GarfastWarning, stacklevel=4)


def check_tensor(
    op: str,
    name: str,
    value: Any,
    shape: Sequence[int | str],
    *,
    floating: bool = True,
    like: Tensor | None = None,
) -> None:
    """Raise ArgumentError unless ``value`` is a tensor of ``shape``.

    Args:
        shape: the shape needed; a string stands for any size and is shown in the message.
        floating: True: a floating dtype; False: an integer dtype.
        like: another tensor whose device ``value`` must share.
    """
    if not isinstance(value, Tensor):
        raise ArgumentError(f"{op}: {name} must be a tensor of shape {_shown(shape)}, not {type(value).__name__}")
    if not _matches(value.shape, shape):
        raise ArgumentError(f"{op}: {name} must have shape {_shown(shape)}, not {list(value.shape)}")
    if floating and value.dtype not in _FLOATS:
        raise ArgumentError(f"{op}: {name} must be floating point, not {value.dtype}")
    if not floating and value.dtype not in (torch.int32, torch.int64):
        raise ArgumentError(f"{op}: {name} must be int32 or int64, not {value.dtype}")
    if like is not None and value.device != like.device:
        raise ArgumentError(f"{op}: {name} is on {value.device} but the other tensors are on {like.device}")


def _matches(actual: Sequence[int], shape: Sequence[int | str]) -> bool:
    if len(actual) != len(shape):
        return False
    # A loop, not all(...): setting up a generator would take most of the time of a check.
    for size, wanted in zip(actual, shape, strict=True):  # noqa: SIM110
        if size != wanted and not isinstance(wanted, str):
            return False
    return True


def _shown(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(size) for size in shape)}]"


def check_number(op: str, name: str, value: Any) -> None:
    """Raise ArgumentError unless ``value`` can be taken as a number; a string cannot."""
    # torch.compile makes numbers that change symbolic, and cannot ask these for attributes.
    if not (isinstance(value, (int, float)) or hasattr(value, "__float__")):
        raise ArgumentError(f"{op}: {name} must be a number, not {value!r}")


def check_indices(op: str, name: str, indices: Tensor, limit: int) -> None:
    """Raise ArgumentError if a CPU index tensor leaves [0, limit).

    Not on a GPU, where this would cost a synchronisation, nor while torch.compile traces a reference, where there are
    no values to look at.
    """
    if indices.numel() == 0 or indices.device.type != "cpu" or torch.compiler.is_compiling():
        return
    readable = indices.dtype == torch.int32 and indices.is_contiguous()
    # Several times as fast as aminmax, which would take a tenth of a small rasterisation.
    if (
        readable
        and not _native.why_not("cpu")
        and _native.cpu().indices_inside(indices.data_ptr(), indices.numel(), limit)
    ):
        return
    low, high = torch.aminmax(indices)
    if low < 0 or high >= limit:
        raise ArgumentError(f"{op}: {name} must lie in 0..{limit - 1}, found {int(low)}..{int(high)}")


def int32_indices(op: str, name: str, indices: Tensor, limit: int) -> Tensor:
    """``indices`` as the kernels take them; numbers that int32 cannot hold must not come to look like others.

    Raises:
        ArgumentError: a CPU index leaves [0, limit); of those that are int32 already, the operator finds out.
    """
    if indices.dtype == torch.int32:
        return indices
    check_indices(op, name, indices, limit)
    return indices.to(torch.int32)


def call_native(backend: str, function: str, like: Tensor, *args: Any) -> None:
    """Call ``function`` of the native module: tensors become addresses (None becomes 0), also those in tuples, the rest
    passes as it is.

    The CPU module gets the number of threads first, the CUDA module the device index and the current stream.
    """
    values = _addresses(args)
    if backend == "cpu":
        getattr(_native.cpu(), function)(torch.get_num_threads(), *values)
    elif _native.CUDA_ON_HOST:
        getattr(_native.cuda(), function)(0, 0, *values)
    else:
        stream = torch.cuda.current_stream(like.device).cuda_stream
        with device_of(like):
            getattr(_native.cuda(), function)(like.device.index, stream, *values)


def device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Makes the GPU of ``tensor`` the current one, on which Triton and the CUDA runtime launch."""
    if tensor.device.type != "cuda" or tensor.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(tensor.device)


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Switches autocast off where it is on: the operators choose their dtypes themselves, in the backward too."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _addresses(values: tuple[Any, ...]) -> tuple[Any, ...]:
    # One loop, not a function for each value: there are some thirty to a call.
    found = []
    for value in values:
        if value is None:
            value = 0
        elif isinstance(value, Tensor):
            value = value.data_ptr()
        elif isinstance(value, tuple):
            value = _addresses(value)
        found.append(value)
    return tuple(found)


# PyTorch takes a microsecond to find that there is nothing to convert or to expand; an operator asks a dozen times.
def as_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` in ``dtype``."""
    return value if value.dtype == dtype else value.to(dtype)


def expanded(value: Tensor, shape: Sequence[int]) -> Tensor:
    """``value`` expanded to ``shape``."""
    return value if value.shape == shape else value.expand(shape)


def differentiated(*tensors: Tensor | None) -> bool:
    """Whether autograd records what is done with ``tensors``.

    Raises:
        ArgumentError: one carries a forward-mode tangent, which a kernel would drop.
    """
    refuse_tangents(*tensors)
    if not torch.is_grad_enabled():
        return False
    if not torch.compiler.is_compiling() and torch._C._functorch.maybe_current_level() is not None:
        return True  # inside torch.vmap tensors do not tell
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def refuse_tangents(*tensors: Tensor | None) -> None:
    """Raise ArgumentError if forward-mode differentiation goes through one of ``tensors``."""
    if forward_ad._current_level < 0:
        return
    if any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise ArgumentError("the kernels have no forward-mode derivative: use impl='reference'")


@dataclass
class _Operator:
    """The forms of a registered operator: see operator()."""

    registered: Any
    forward: Callable[..., Any]
    autograd: Callable[..., Any] | None = None


_OPERATORS: dict[str, _Operator] = {}


def register(
    name: str,
    schema: str,
    forward: Callable[..., Any],
    fake: Callable[..., Any],
    devices: Sequence[str] = ("cpu", "cuda"),
) -> None:
    """Register ``forward`` as ``garfast::NAME``; see operator() for how to call it."""
    qualified = f"garfast::{name}"
    torch.library.define(qualified, schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(qualified, devices, forward)
    torch.library.register_fake(qualified, fake)

    def plain(*inputs: Any) -> Any:
        if not torch.autograd._profiler_enabled():
            return forward(*inputs)
        with torch.profiler.record_function(qualified):
            return forward(*inputs)

    _OPERATORS[name] = _Operator(getattr(torch.ops.garfast, name).default, plain)


def register_autograd(
    name: str,
    backward: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None] | None = None,
) -> None:
    """Give ``garfast::NAME``, which register() has registered, its derivative."""
    torch.library.register_autograd(f"garfast::{name}", backward, setup_context=setup_context)
    operator_ = _OPERATORS[name]

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = operator_.forward(*inputs)
        if setup_context is not None:
            setup_context(ctx, inputs, output)
        return output

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function = type(f"garfast::{name}", (torch.autograd.Function,), methods)
    operator_.autograd = function.apply  # type: ignore[attr-defined]


def operator(name: str, *tensors: Tensor | None) -> Callable[..., Any]:
    """The cheapest form of ``garfast::NAME`` that does all that a call on ``tensors`` asks for.

    PyTorch's dispatcher takes every argument of an operator that is registered from Python through Python and back, and
    its autograd once more: a fifth to a third of the time of a call on small tensors. Where nobody else looks at the
    call it is the function itself, inside an autograd function of ours if it is to be differentiated. torch.compile,
    tracing, transformations, modes and tensor subclasses get what is registered.

    Raises:
        ArgumentError: one carries a forward-mode tangent, which a kernel would drop.
    """
    found = _OPERATORS[name]
    recorded = differentiated(*tensors)
    if _observed(tensors):
        return found.registered  # type: ignore[no-any-return]
    if not recorded:
        return found.forward
    assert found.autograd is not None
    return found.autograd


_PLAIN = (Tensor, torch.nn.Parameter, type(None))


def _observed(tensors: Sequence[Tensor | None]) -> bool:
    """Whether something other than eager PyTorch is to see calls on ``tensors``."""
    if torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None:
        return True
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return True
    # A loop, not any(...): setting up a generator takes longer.
    for tensor in tensors:  # noqa: SIM110
        if type(tensor) not in _PLAIN:
            return True
    return False


_in_own_dtype = False


@contextmanager
def references_in_own_dtype() -> Iterator[None]:
    """Inside the block impl='reference' computes 16-bit formats in these, as PyTorch's operators in a network do.

    That is what the kernels' speed is to be compared with; float32, which tests want, takes the reference longer. The
    kernels must not be called in the block. It holds for all threads.
    """
    global _in_own_dtype
    before, _in_own_dtype = _in_own_dtype, True
    try:
        yield
    finally:
        _in_own_dtype = before


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which the operators compute on ``dtype``: float64 for itself, float32 for the rest."""
    return dtype if dtype == torch.float64 or _in_own_dtype else torch.float32


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last for a 4D tensor that is laid out so and not also contiguous; else contiguous."""
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last


def tf32_allowed() -> bool:
    """Whether convolutions may multiply float32 as tf32, as PyTorch's own ask."""
    # Since PyTorch 2.9 a switch of its own, which the older one sets; reading that raises once this one was set.
    convolution = getattr(torch.backends.cudnn, "conv", None)
    return torch.backends.cudnn.allow_tf32 if convolution is None else convolution.fp32_precision == "tf32"


def dtype_suffix(dtype: torch.dtype) -> str:
    """'float32' for torch.float32 and so on: the ending of a native function's name."""
    return _SUFFIXES[dtype]
