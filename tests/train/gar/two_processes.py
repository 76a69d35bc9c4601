"""What two processes do together; run by test_distributed.py as ``torchrun`` would, once for each rank."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from garfast.errors import TrainingError
from garfast.train.gar import distributed
from garfast.train.gar.augment import AdaController
from garfast.train.gar.task import GarTask
from garfast.train.loop import LoopConfig, train
from tests.train.gar.conftest import make_task, tiny_settings


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def renderer_task(parts: int) -> GarTask:
    """The renderer's training without the path length, of which a step has one whatever the number of parts."""
    settings = tiny_settings(batch=8 * parts, paired=4 * parts, accumulate=parts)
    settings = replace(settings, weights=replace(settings.weights, path_length=0))
    task = make_task(settings)
    assert task.ada is not None
    task.ada.p = 0.6
    return task


def gradients(task: GarTask) -> dict[str, list[Tensor | None]]:
    """What the last step left of each network."""
    return {
        name: [None if parameter.grad is None else parameter.grad.clone() for parameter in network.parameters()]
        for name, network in (("G", task.generator), ("D", task.discriminator), ("V", task.inverter))
    }


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
        loss = (self.weight - joint[distributed.rank() :: distributed.world()]).square().mean()
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

        task = renderer_task(1)
        facts["scalars"] = task.step(0)
        torch.save(gradients(task), folder / f"gradients{rank}.pt")
        task = make_task(tiny_settings(ada_images=100))
        for step in range(2):
            task.step(step)
        torch.save(task.state_dict(), folder / f"state{rank}.pt")

        torch.manual_seed(rank)
        layer = torch.nn.Linear(3, 3)
        distributed.same_start(layer)
        facts["start"] = layer.weight.tolist()

        controller = AdaController(interval=3, kimg=0.1)
        answers = torch.randn(5, 8, generator=_rng()) + 1
        for row in answers[:4]:
            controller.observe(row[rank::2])
            controller.update()
        state = controller.state_dict()
        controller = AdaController(interval=3, kimg=0.1)
        controller.load_state_dict(state)
        controller.observe(answers[4][rank::2])
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
