"""Several processes that share a list of photographs, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from garfast.errors import ArgumentError

T = TypeVar("T")

# A process may have to wait for others that have many more faces in their share.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Share:
    """One process among several.

    Attributes:
        rank: from 0.
        count: of processes.
        local_rank: among those on the same machine; the GPU to use.
    """

    rank: int
    count: int
    local_rank: int
    # Every tensor that was sent or received. Gloo's thread may be the last to let go of one, for which it needs the
    # interpreter. Destroying the group keeps the interpreter until that thread has ended: done too soon, neither ever
    # ends. So they stay here until the group is gone, and `gather_object`, which keeps nothing, is not used.
    _sent: list[Any] = field(default_factory=list, repr=False)

    def gather(self, value: T) -> list[T] | None:
        """The values of all processes, in the order of ranks, in process 0; None in the others."""
        import torch
        import torch.distributed as dist

        data = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        size = torch.tensor([len(data)])
        sizes = [torch.zeros_like(size) for _ in range(self.count)]
        self._sent.extend([size, *sizes])
        dist.all_gather(sizes, size)
        lengths = [int(length) for length in sizes]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(data)] = data
        received = [torch.zeros_like(padded) for _ in range(self.count)] if self.rank == 0 else None
        self._sent.extend([padded, *(received or [])])
        dist.gather(padded, received)
        if received is None:
            return None
        return [pickle.loads(part[:length].numpy().tobytes()) for part, length in zip(received, lengths, strict=True)]


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name) or str(otherwise)
    try:
        return int(text)
    except ValueError as error:
        raise ArgumentError(f"{name} is {text!r}, not a number: start the processes with torchrun") from error


def process_count(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes ``torchrun`` has started.

    Raises:
        ArgumentError: its variable holds no number.
    """
    return _number(environment, "WORLD_SIZE", 1)


@contextmanager
def sharing(environment: Mapping[str, str] = os.environ) -> Iterator[Share | None]:
    """This process's share, from the variables that ``torchrun`` sets; None where it is alone.

    Raises:
        ArgumentError: the variables are set in part, or make no sense.
    """
    count = process_count(environment)
    if count < 2:
        yield None
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        raise ArgumentError(f"WORLD_SIZE is set, but {', '.join(missing)} is not: start the processes with torchrun")
    import torch.distributed as dist

    rank = _number(environment, "RANK", 0)
    local_rank = _number(environment, "LOCAL_RANK", rank)
    dist.init_process_group("gloo", rank=rank, world_size=count, timeout=_PATIENCE)
    share = Share(rank, count, local_rank)
    try:
        yield share
    finally:
        dist.destroy_process_group()
