"""In which precision a training computes."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86-64's two, and AArch64's
_PREFIXES = ("flags", "Features")


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers. Where it does not, PyTorch imitates it, ten times slower than
    float32."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return False
    return any(
        not _INSTRUCTIONS.isdisjoint(line.split(":", 1)[-1].split())
        for line in text.splitlines()
        if line.startswith(_PREFIXES)
    )


def autocast(device: torch.device | str, bfloat16: bool) -> torch.autocast:
    """A context in which networks run in bfloat16 if that is wanted and ``device`` has it, else in float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=bfloat16 and (kind != "cpu" or cpu_has_bfloat16()))
