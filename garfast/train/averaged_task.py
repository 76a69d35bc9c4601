"""What tasks of one network with averaged weights share: the optimiser's step, and the state a resumed run needs."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from garfast.networks.weights import fill_network, load_weights
from garfast.train.loop import Averaged


class AveragedTask:
    """Base of tasks that train ``network`` with ``optimizer`` and keep its running ``average``.

    A subclass sets the four attributes; ``settings`` is a dataclass with ``batch``, ``seed``, ``size`` and ``steps``,
    and the network's class is called with its ``config``.
    """

    settings: Any
    network: Any
    optimizer: torch.optim.Optimizer
    average: Averaged

    def start_from(self, path: str | os.PathLike[str], kind: str) -> None:
        """Begin with weights that an earlier training exported; the optimiser starts anew.

        Args:
            path: the weight file.
            kind: what its weights must be for.

        Raises:
            WeightsFileError: the file is damaged, for something else, or of a network of another shape.
        """
        config, state = load_weights(path, kind=kind)
        fill_network(self.network, {**self.tensors_beyond(config), **state}, path)
        self.average.state = {name: value.clone() for name, value in self.network.state_dict().items()}

    def tensors_beyond(self, config: dict[str, Any]) -> dict[str, Tensor]:
        """What the network has and one of ``config`` lacks, as it should start. Nothing, unless a subclass can begin
        with the weights of a smaller network."""
        return {}

    def descend(self, parts: dict[str, Tensor], step: int, max_norm: float) -> dict[str, float]:
        """One optimiser step on ``parts['loss']`` with gradients clipped to ``max_norm``; returns the parts' values."""
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), max_norm)
        self.optimizer.step()
        self.average.update(self.network, step)
        return {name: float(value.detach()) for name, value in parts.items()}

    def averaged_network(self) -> Any:
        """The network with averaged weights, for evaluation and export."""
        network = type(self.network)(self.network.config)
        network.load_state_dict(self.average.state)
        return network.eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "settings": {**asdict(self.settings), "steps": 0},
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, but for the learning rate, which may be another now.

        Raises:
            ValueError: the state belongs to another batch size, seed or picture size.
        """
        if any(state["settings"][name] != getattr(self.settings, name) for name in ("batch", "seed", "size")):
            raise ValueError("other settings")
        self.network.load_state_dict(state["network"])
        # Where a group has a base rate; elsewhere every step sets the learning rate from the settings.
        rates = [{"rate": group["rate"]} if "rate" in group else {} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group.update(rate)
        own = self.average.state
        self.average.state = {name: value.to(own[name].device) for name, value in state["average"].items()}
