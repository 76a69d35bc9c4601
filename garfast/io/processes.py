"""Worker processes with one thread each."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from garfast.errors import GarfastError

_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started within have one thread: PyTorch's, NumPy's and the kernels' are limited through the
    environment, which all of them read when they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
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


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., object] = _nothing, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes with one thread each; what is not begun is cancelled when the block is left by an exception.

    They are fresh processes: forking one that has used OpenMP or a GPU may hang.

    Raises:
        GarfastError: a worker process was killed.
    """
    context = get_context("spawn")
    with (
        one_thread_each(),
        ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(initializer, initargs)) as pool,
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
