"""Synthetic photographs with known geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garfast.synth.config import SynthConfig
    from garfast.synth.faces import SyntheticFaces
    from garfast.synth.shards import ShardedFaces

__all__ = ["ShardedFaces", "SynthConfig", "SyntheticFaces"]


def __getattr__(name: str) -> Any:
    if name == "SyntheticFaces":
        from garfast.synth.faces import SyntheticFaces

        return SyntheticFaces
    if name == "ShardedFaces":
        from garfast.synth.shards import ShardedFaces

        return ShardedFaces
    if name == "SynthConfig":
        from garfast.synth.config import SynthConfig

        return SynthConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
