"""What two processes do together; run by test_distributed.py as ``torchrun`` would, once for each rank."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor

from garfast.errors import TrainingError
from garfast.networks.discriminator import Discriminator, DiscriminatorConfig
from garfast.train.gar import distributed
from garfast.train.gar.augment import AdaController, AugmentConfig, augment
from garfast.train.loop import LoopConfig, train

FLIPPED = AugmentConfig(flip=True, noise=0.1)


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def network(seed: int) -> Discriminator:
    torch.manual_seed(seed)
    return Discriminator(DiscriminatorConfig(size=16, channel_base=64, channel_max=8, group_size=2), impl="reference")


def gradients(critic: Discriminator, images: Tensor) -> list[Tensor]:
    """Of a loss with the gradient penalty in it, behind the augmentation."""
    images = images.clone().requires_grad_()
    answers = critic(augment(images, 0.7, _rng(), FLIPPED))
    # The penalty of one sample depends on those of its group, all in the same process.
    (slope,) = torch.autograd.grad(answers.sum(), images, create_graph=True)
    loss = torch.nn.functional.softplus(-answers).mean() + slope.square().sum((1, 2, 3)).mean()
    critic.zero_grad(set_to_none=True)
    loss.backward()
    return [parameter.grad for parameter in critic.parameters()]


class Line:
    """Fits numbers; each process sees its own part of them."""

    def __init__(self, at: dict[int, str]) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)
        self.at = at

    def step(self, step: int) -> dict[str, float]:
        if self.at.get(step) == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        joint = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        loss = (self.weight - distributed.own(joint)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients([self.weight])
        self.optimizer.step()
        value = float("nan") if self.at.get(step) == "nan" else float(loss.detach())
        return {"loss": value}

    def evaluate(self, step: int) -> dict[str, float]:
        return {"norm": float(self.weight.detach().norm())}

    def state_dict(self):
        return {"weight": self.weight.detach().clone()}

    def load_state_dict(self, state):
        with torch.no_grad():
            self.weight.copy_(state["weight"])

    def export(self, path, notes):
        return ""


def _config(out: Path) -> LoopConfig:
    return LoopConfig(out, 12, log_every=2, evaluate_every=4, checkpoint_every=4)


def main(folder: Path) -> None:
    with distributed.processes("cpu") as device:
        rank = distributed.rank()
        facts: dict[str, object] = {"world": distributed.world(), "device": str(device)}

        critic = network(seed=rank)
        distributed.same_start(critic)
        joint = torch.randn(8, 3, 16, 16, generator=_rng())
        gradients(critic, distributed.own(joint))
        distributed.average_gradients(critic.parameters())
        torch.save([parameter.grad for parameter in critic.parameters()], folder / f"gradients{rank}.pt")
        torch.save(augment(distributed.own(joint), 0.7, _rng(), FLIPPED), folder / f"augmented{rank}.pt")

        controller = AdaController(interval=3, kimg=0.1)
        answers = torch.randn(5, 8, generator=_rng()) + 1
        for row in answers[:4]:
            controller.observe(distributed.own(row))
            controller.update()
        state = controller.state_dict()
        controller = AdaController(interval=3, kimg=0.1)
        controller.load_state_dict(state)
        controller.observe(distributed.own(answers[4]))
        controller.update()
        facts["ada"] = controller.state_dict()

        facts["mean"] = distributed.average_scalars({"a": float(rank), "b": 2.0})
        heard: list[int] = []
        place = _config(folder / "line")
        stopped = Line({5: "signal"} if rank == 1 else {})
        listener = lambda step, kind, values: heard.append(step)  # noqa: E731
        facts["stopped"] = train(stopped, place, progress=False, crew=distributed.Crew(), listener=listener)
        facts["heard"] = list(heard)
        again = Line({})
        facts["finished"] = train(again, place, progress=False, crew=distributed.Crew())
        facts["weight"] = again.weight.tolist()
        try:
            bad = Line({6: "nan"} if rank == 0 else {})
            train(bad, _config(folder / "bad"), progress=False, crew=distributed.Crew())
        except TrainingError as error:
            facts["error"] = str(error)
        (folder / f"facts{rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
