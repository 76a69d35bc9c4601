"""Which device a name stands for."""

from __future__ import annotations

import torch

from garfast.errors import ArgumentError


def find_device(name: str | torch.device) -> torch.device:
    """The device of a name.

    Args:
        name: 'auto' (a GPU where one is usable, else the CPU), 'cpu', 'cuda' or 'cuda:N'; or a device, to be checked.

    Raises:
        ArgumentError: the name is none of these, or there is no such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ArgumentError(f"'{name}' is not a device that garfast knows: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError(f"there is no device '{name}' on this machine: use cpu, or see `garfast doctor`")
    return device
