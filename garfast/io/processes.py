"""Worker processes with one thread each."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import Any

from garfast.errors import GarfastError

_PRELOADED = "garfast.synth.faces"  # and with it torch, numpy and scipy: two seconds that workers need not spend each
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started within have one thread: PyTorch's, NumPy's and the kernels' are limited through the
    environment, which all of them read when they are loaded."""
    with _environment(dict.fromkeys(_THREAD_LIMITS, "1")):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _nothing() -> None:
    pass


def _begin(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> None:
    """What is loaded now stays to the end: garbage collections need not look through it again and again, which took
    one part in twenty of the time that synthetic photographs take."""
    initializer(*initargs)
    gc.freeze()


def _context() -> BaseContext:
    """Workers are forked from a process that has imported much and done nothing: one that has used OpenMP or a GPU, as
    this one may have, must not be forked."""
    # Before Python 3.11 that process would import what lies in the working directory.
    if "forkserver" not in get_all_start_methods() or sys.version_info < (3, 11):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    return context


def expect_workers() -> None:
    """Begin with what a :func:`worker_pool` will wait for, and return at once.

    For programs that have something to import or to read before they open a pool.
    """
    if _context().get_start_method() == "forkserver":
        # It is to import what this process would, which older versions of Python do not see to.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with one_thread_each(), _environment({"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}):
            forkserver.ensure_running()


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., object] = _nothing, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes with one thread each; what is not begun is cancelled when the block is left by an exception.

    Raises:
        GarfastError: a worker process was killed.
    """
    expect_workers()
    with (
        one_thread_each(),
        ProcessPoolExecutor(workers, _context(), initializer=_begin, initargs=(initializer, initargs)) as pool,
    ):
        try:
            yield pool
        except BrokenProcessPool as error:
            raise GarfastError(
                "a worker process ended unexpectedly, most likely for want of memory: start again with fewer --workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
