"""Weight files: safetensors in half precision, with the network's configuration and a checksum in the header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from garfast.errors import WeightsFileError
from garfast.io.atomic import atomic_path

_HEADER = "garfast"


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module | Mapping[str, Tensor],
    *,
    kind: str,
    config: Mapping[str, Any],
    notes: Mapping[str, Any] | None = None,
    half: bool = True,
) -> str:
    """Write a network's parameters and buffers.

    Matrices and kernels are stored as float16 (with ``half``); vectors (biases, statistics of normalisation) keep
    float32, since they are small and a variance may leave the range of float16.

    Args:
        path: the file to write, ending in .safetensors by custom.
        network: the module, or its state dictionary.
        kind: what the weights are for; :func:`load_weights` insists on it.
        config: what is needed to build the network again, JSON values.
        notes: how the weights came to be, JSON values.
        half: store float16 where that is safe.

    Returns:
        The SHA-256 of the stored tensors, hexadecimal.

    Raises:
        OutputError: the file cannot be written.
        WeightsFileError: a value is not finite, or too large for float16.
    """
    from safetensors.torch import save_file

    state = network.state_dict() if isinstance(network, nn.Module) else network
    stored = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if value.is_floating_point():
            if not torch.isfinite(value).all():
                raise WeightsFileError(f"weights of {kind!r} are not saved: {name} holds values that are not finite")
            value = value.to(torch.float16 if half and value.dim() > 1 else torch.float32)
            if not torch.isfinite(value).all():
                raise WeightsFileError(f"weights of {kind!r} are not saved: {name} is too large for half precision")
        stored[name] = value.contiguous()
    digest = _digest(stored)
    header = {"kind": kind, "config": dict(config), "notes": dict(notes or {}), "sha256": digest}
    with atomic_path(path) as temporary:
        save_file(stored, str(temporary), metadata={_HEADER: json.dumps(header, sort_keys=True)})
    return digest


def load_weights(path: str | os.PathLike[str], *, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a weight file and check it; it is data only and cannot run code.

    Args:
        path: a file written by :func:`save_weights`.
        kind: what the weights must be for.

    Returns:
        The configuration, and the tensors on the CPU with float16 turned to float32.

    Raises:
        WeightsFileError: the file is missing, truncated, changed, or made for something else.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsFileError(
            f"there is no weight file {path}: train one (see `garfast train --help`) or check the path"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsFileError(f"{path} is not a complete safetensors file: fetch or train it again") from error
    try:
        header = json.loads(text or "")
        found, config, digest = str(header["kind"]), dict(header["config"]), str(header["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsFileError(f"{path} was not written by garfast: its header lacks our description") from error
    if found != kind:
        raise WeightsFileError(f"{path} holds weights for {found!r}, but weights for {kind!r} were expected")
    if _digest(state) != digest:
        raise WeightsFileError(f"{path} is damaged: its checksum does not match, so fetch or train it again")
    return config, {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}


def fill_network(network: nn.Module, state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Put loaded tensors into a network and set it to evaluation.

    Raises:
        WeightsFileError: names or shapes differ.
    """
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(state)) or sorted(k for k in own if own[k].shape != state[k].shape)
    if wrong:
        raise WeightsFileError(
            f"{Path(path)} does not fit the network: {len(wrong)} tensors differ in name or shape, first {wrong[0]!r}"
        )
    network.load_state_dict(dict(state))
    network.eval()


def _digest(state: Mapping[str, Tensor]) -> str:
    checksum = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous()
        checksum.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        checksum.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return checksum.hexdigest()
