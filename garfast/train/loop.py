"""A training loop that can be stopped at any moment and goes on exactly where it was."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from garfast.errors import TrainingError
from garfast.io.atomic import atomic_path, writing

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
EVALUATION = "evaluation.csv"
CURVES = "curves.png"


class Task(Protocol):
    """What a loop trains. A step must depend on nothing but the state and the step's number, so that runs resume."""

    def step(self, step: int) -> dict[str, float]:
        """Do one optimiser step (the first is 0) and return scalars to log; ``loss`` is among them."""

    def evaluate(self, step: int) -> dict[str, float]:
        """Measure on held-out data after ``step`` steps; may be empty."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on: tensors, numbers, strings, lists and dictionaries of them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the weights that go with the package, with notes on how they came to be; returns their checksum."""


class Crew(Protocol):
    """The processes that train one model together."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; called by all of them at the same point."""

    def wait(self) -> None:
        """Until all processes have come here."""


class _Alone:
    """The crew of a single process."""

    first = True

    def any(self, flag: bool) -> bool:
        return flag

    def wait(self) -> None:
        return


Listener = Callable[[int, str, dict[str, float]], None]
"""Told the step, 'train' or 'held-out', and the scalars that go into that log."""


@dataclass(frozen=True)
class LoopConfig:
    """How long to train and what to write when.

    Attributes:
        out: folder for the checkpoint, the logs and the curves.
        steps: the step to stop at, counted from the very first start.
        log_every, evaluate_every, checkpoint_every: in steps. Scalars in the log are means since the line before, each
            over the steps that reported it.
        minutes: stop (with a checkpoint) after this long, counted from this start; None for no limit.
    """

    out: Path
    steps: int
    log_every: int = 50
    evaluate_every: int = 1000
    checkpoint_every: int = 500
    minutes: float | None = None


def train(
    task: Task,
    config: LoopConfig,
    *,
    progress: bool = True,
    crew: Crew | None = None,
    listener: Listener | None = None,
) -> int:
    """Train until ``config.steps``, a signal (SIGTERM, SIGINT) or the time limit; resumes from a checkpoint in ``out``.

    Args:
        task: what to train; its state is replaced by the checkpoint's if there is one.
        config: lengths and places.
        progress: show a bar.
        crew: the processes that share the work. The first one writes; a signal or a bad number in any of them stops
            all after the same step. ``evaluate`` and ``state_dict`` are called in all of them. All read the checkpoint,
            so ``out`` must be the same folder for all.
        listener: told what is written to the logs, in the first process.

    Returns:
        The number of steps done since the very first start. Less than ``config.steps`` if the run was stopped.

    Raises:
        TrainingError: the loss is not finite (the last checkpoint stays), or the checkpoint cannot be read.
        OutputError: the checkpoint or a log cannot be written (no space, no permission); an older one stays.
    """
    crew = crew or _Alone()
    out = Path(config.out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    step = _resume(task, out, crew)
    started, sums, counts = time.monotonic(), dict[str, float](), dict[str, int]()
    saved = step
    quiet = not (progress and crew.first)

    def log(name: str, kind: str, values: dict[str, float], more: dict[str, float]) -> None:
        if crew.first:
            _append(out / name, {"step": step, **values, **more})
            if listener is not None:
                listener(step, kind, values)

    with _stop_signals() as stop, tqdm(total=config.steps, initial=step, disable=quiet, unit="step") as bar:
        while step < config.steps:
            late = config.minutes is not None and time.monotonic() - started > 60 * config.minutes
            if crew.any(bool(stop) or late):
                break
            scalars = task.step(step)
            bad = next((f"{name} is {value}" for name, value in scalars.items() if not math.isfinite(value)), None)
            _check(bad, crew, step, saved, out)
            step += 1
            bar.update()
            for name, value in scalars.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1
            if step % config.log_every == 0:
                means = {name: value / counts[name] for name, value in sums.items()}
                log(LOG, "train", means, {"seconds": round(time.monotonic() - started, 1)})
                bar.set_postfix({"loss": f"{means.get('loss', float('nan')):.4f}"})
                sums, counts = {}, {}
            if step % config.evaluate_every == 0 or step == config.steps:
                figures = task.evaluate(step)
                if figures:
                    log(EVALUATION, "held-out", figures, {})
                    if not quiet:
                        bar.write(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
            if step % config.checkpoint_every == 0:
                _save(task, out, step, crew, saved)
                saved = step
    if step != saved:
        _save(task, out, step, crew, saved)
    if crew.first:
        draw_curves(out)
    return step


def _check(bad: str | None, crew: Crew, step: int, saved: int, out: Path) -> None:
    """Stop all processes if one has seen something bad."""
    if crew.any(bad is not None):
        what = bad or "a loss is not finite in another process"
        kept = f"the checkpoint of step {saved} in {out} is intact, so " if (out / CHECKPOINT).is_file() else ""
        raise TrainingError(f"training stopped at step {step}: {what}; {kept}lower the learning rate and start again")


def _save(task: Task, out: Path, step: int, crew: Crew, saved: int) -> None:
    state = {"step": step, "task": task.state_dict()}
    # Losses come before the update, which may have spoiled the weights: they must not replace good ones.
    _check(None if _finite(state) else "a weight is not finite", crew, step, saved, out)
    if crew.first:
        # Through a file object: torch would hide the reason of a failed write.
        with atomic_path(out / CHECKPOINT) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    crew.wait()


def _finite(state: Any) -> bool:
    """Whether all tensors in nested dictionaries and lists are finite."""
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(state.isfinite().all())
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return all(_finite(part) for part in parts)


def _resume(task: Task, out: Path, crew: Crew) -> int:
    path = out / CHECKPOINT
    if not path.is_file():
        for name in (LOG, EVALUATION) if crew.first else ():
            (out / name).unlink(missing_ok=True)
        crew.wait()
        return 0
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        step = int(saved["step"])
        task.load_state_dict(saved["task"])
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path} is not a checkpoint of this run: choose an empty folder, or the settings it was made with"
        ) from error
    for name in (LOG, EVALUATION) if crew.first else ():
        rows = [row for row in read_log(out / name) if int(float(row["step"])) <= step]
        (out / name).unlink(missing_ok=True)
        for row in rows:
            _append(out / name, row)
    crew.wait()
    return step


def read_log(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The rows of a log, oldest first; empty if there is none."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a row; columns that the file does not have yet stay empty in the rows before."""
    names: list[str] = []
    formatted = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
    with writing(path):
        if path.is_file():
            with open(path, newline="") as file:
                names = next(csv.reader(file), [])
        new = [name for name in row if name not in names]
        if not new:
            with open(path, "a", newline="") as file:
                csv.DictWriter(file, names).writerow(formatted)
            return
        rows = read_log(path)
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, names + new)
        writer.writeheader()
        writer.writerows([*rows, formatted])


def draw_curves(out: str | os.PathLike[str]) -> None:
    """Draw every column of both logs of a run into one picture; nothing where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    series: list[tuple[str, list[float], list[float]]] = []
    for name, mark in ((LOG, ""), (EVALUATION, "held-out ")):
        rows = read_log(Path(out) / name)
        for key in rows[0] if rows else []:
            if key not in ("step", "seconds"):
                there = [row for row in rows if row[key]]
                series.append((mark + key, [float(r["step"]) for r in there], [float(r[key]) for r in there]))
    if not series:
        return
    columns = min(4, len(series))
    lines = -(-len(series) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(series) :]:
        axis.set_visible(False)
    for axis, (name, steps, values) in zip(axes.flat, series, strict=False):
        axis.plot(steps, values, linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if min(values) > 0 and max(values) > 4 * min(values):
            axis.set_yscale("log")
    with atomic_path(Path(out) / CURVES) as temporary:
        figure.savefig(temporary, dpi=110)


def write_settings(out: str | os.PathLike[str], settings: dict[str, Any]) -> None:
    """Keep a run's settings beside it as settings.json."""
    Path(out).mkdir(parents=True, exist_ok=True)
    with atomic_path(Path(out) / "settings.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=1, sort_keys=True, default=str) + "\n")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that fills when SIGTERM or SIGINT arrives; the old handlers come back afterwards."""
    received: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            handlers[number] = signal.signal(number, lambda n, _frame: received.append(n))
        except ValueError:  # not the main thread
            break
    try:
        yield received
    finally:
        for caught, handler in handlers.items():
            signal.signal(caught, handler)


class Averaged:
    """Exponential moving average of a module's parameters and floating buffers, for evaluation and export.

    Attributes:
        state: the averages.
        age: how many steps they had been averaged over before the first.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay, self.age = decay, 0
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Take in the module after ``step``; early steps average over fewer."""
        age = self.age + step
        decay = min(self.decay, (1 + age) / (10 + age))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def learning_rate(step: int, steps: int, *, warmup: int = 200, decay: float = 0.4) -> float:
    """Factor of the learning rate: rises over ``warmup``, stays, and falls to 0 over the last ``decay`` of the run.

    A run that stopped before it fell can go on with more steps as if they had been planned.
    """
    rising = min(1.0, (step + 1) / warmup)
    left = (steps - step) / max(1.0, decay * steps)
    return rising * min(1.0, max(left, 0.0))
