"""Gradient descent of many faces at once, each with an end of its own; nothing is read back from the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from garfast.fit.refine_config import RefineStage

# Adam's memory of gradients and of their squares, and the smoothing of the loss that tells progress.
_BETA1, _BETA2, _EPS = 0.9, 0.99, 1e-10
_SMOOTHING = 0.8
# Iterations before a capture, since libraries choose their kernels and workspaces on use.
_WARMUPS = 3


class Descent:
    """Adam on leaves [B, ...] (or [1, ...], shared by all faces) with a mask of the faces that still move.

    A face stops when its smoothed loss has made no progress for ``stage.patience`` iterations; one whose loss or
    gradient is not finite stops where it is and is marked. All of it is tensors, so that an iteration can be captured
    in a CUDA graph.

    Args:
        leaves: by name; each is changed in place.
        losses: give the losses by name for the leaves' present values, each for some of the faces, in order: together
            [B] of each name. One after the other is computed and differentiated, so that memory holds one at a time.
        stage: rates, weights and schedule.
        faces: B.
        after: called after each change, without gradients, for what must hold (bounds, normalisation).

    Attributes:
        active: [B] bool, faces that still move.
        diverged: [B] bool.
        steps: [B] int64, changes made to each face.
        values: the losses of the last iteration by name, [B]; empty before the first.
    """

    def __init__(
        self,
        leaves: Mapping[str, Tensor],
        losses: Sequence[Callable[[], dict[str, Tensor]]],
        stage: RefineStage,
        faces: int,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.leaves, self.losses, self.stage, self.after = dict(leaves), tuple(losses), stage, after
        like = next(iter(self.leaves.values()))
        self.active = torch.ones(faces, dtype=torch.bool, device=like.device)
        self.diverged = torch.zeros_like(self.active)
        self.steps = torch.zeros(faces, dtype=torch.int64, device=like.device)
        self.values: dict[str, Tensor] = {}
        self._count = like.new_zeros(())
        self._mean = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        self._square = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        self._smooth, self._best = like.new_zeros(faces), like.new_full((faces,), math.inf)
        self._waited = torch.zeros_like(self.steps)

    def iterate(self) -> None:
        """One iteration."""
        for leaf in self.leaves.values():
            leaf.requires_grad_(True)
        parts: list[dict[str, Tensor]] = []
        found: dict[str, Tensor] = {}
        for part in self.losses:
            losses = part()
            total = self._total(losses)
            if total.requires_grad:
                gradients = torch.autograd.grad(total.sum(), list(self.leaves.values()), allow_unused=True)
                for name, gradient in zip(self.leaves, gradients, strict=True):
                    if gradient is not None:
                        found[name] = found[name] + gradient if name in found else gradient
            parts.append({name: loss.detach() for name, loss in losses.items()})
        for leaf in self.leaves.values():
            leaf.requires_grad_(False)
        names = dict.fromkeys(name for losses in parts for name in losses)
        losses = {name: torch.cat([losses[name] for losses in parts if name in losses]) for name in names}
        with torch.no_grad():
            self._record(losses)
            self._judge(self._total(losses), found)
            self._update(found)
            self.after()

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.stage.weights, name, 1.0) * loss for name, loss in losses.items()]).sum(0)

    def _record(self, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            if name in self.values:
                self.values[name].copy_(loss)
            else:
                self.values[name] = loss.clone()

    def _judge(self, total: Tensor, gradients: dict[str, Tensor]) -> None:
        """Bring ``active`` and ``diverged`` up to date."""
        finite = total.isfinite()
        for gradient in gradients.values():
            if len(gradient) == len(finite):
                finite = finite & gradient.flatten(1).isfinite().all(1)
        self.diverged.logical_or_(self.active & ~finite)
        self.active.logical_and_(finite)
        value = torch.where(finite, total, self._smooth)
        first = self._count == 0
        self._smooth.copy_(torch.where(first, value, torch.lerp(value, self._smooth, _SMOOTHING)))
        better = self._smooth < self._best - self.stage.tolerance * self._smooth.abs()
        self._best.copy_(torch.where(better, self._smooth, self._best))
        self._waited.copy_(torch.where(better, 0, self._waited + 1))
        self.active.logical_and_(self._waited < self.stage.patience)
        self.steps.add_(self.active)

    def _update(self, gradients: dict[str, Tensor]) -> None:
        self._count.add_(1)
        factor = self._schedule()
        for name, gradient in gradients.items():
            leaf, mean, square = self.leaves[name], self._mean[name], self._square[name]
            rate = getattr(self.stage.rates, name)
            own = len(leaf) == len(self.active)
            moves = self.active if own else self.active.any()[None]
            moves = moves.view(-1, *[1] * (leaf.dim() - 1)) & gradient.isfinite()
            gradient = torch.where(moves, gradient, 0)
            mean.lerp_(gradient, 1 - _BETA1)
            square.lerp_(gradient.square(), 1 - _BETA2)
            corrected = (square / (1 - _BETA2**self._count)).sqrt() + _EPS
            step = factor * rate / (1 - _BETA1**self._count) * mean / corrected
            leaf.sub_(torch.where(moves, step, 0))

    def _schedule(self) -> Tensor:
        """Factor of the rates: rises over the warm-up, falls along a cosine at the end."""
        stage = self.stage
        steps = max(stage.steps, 1)
        rising = (self._count / max(stage.warmup * steps, 1.0)).clamp_max(1)
        left = ((steps - self._count + 1) / max(stage.decay * steps, 1.0)).clamp(0, 1)
        return rising * (0.5 - 0.5 * torch.cos(math.pi * left))

    def tensors(self) -> list[Tensor]:
        """All that an iteration changes."""
        state = [self.active, self.diverged, self.steps, self._count, self._smooth, self._best, self._waited]
        return [*self.leaves.values(), *self._mean.values(), *self._square.values(), *state]


def captured(descent: Descent) -> Callable[[], None]:
    """An iteration as one CUDA graph; the descent is as before when this returns or raises.

    Args:
        descent: its leaves are on a GPU.

    Raises:
        RuntimeError: an iteration cannot be captured.
    """
    saved = [tensor.clone() for tensor in descent.tensors()]
    device = descent.active.device
    with torch.cuda.device(device):
        current = torch.cuda.current_stream()
        try:
            side = torch.cuda.Stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(_WARMUPS):
                    descent.iterate()
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                descent.iterate()
        finally:
            torch.cuda.set_stream(current)  # a capture that fails leaves its own
            for leaf in descent.leaves.values():
                leaf.requires_grad_(False)  # an iteration that fails leaves them on
            # The warm-ups moved the descent; capturing runs nothing.
            for tensor, value in zip(descent.tensors(), saved, strict=True):
                tensor.copy_(value)
    return graph.replay
