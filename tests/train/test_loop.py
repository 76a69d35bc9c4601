from __future__ import annotations

import errno
import os
import signal

import pytest
import torch

from garfast.errors import OutputError, TrainingError
from garfast.train import loop
from garfast.train.loop import LoopConfig, learning_rate, read_log, train


class _Line:
    """Fits y = 2x with noise that depends on the step alone."""

    def __init__(self, *, at: dict[int, str] | None = None) -> None:
        torch.manual_seed(0)
        self.weight = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.at = at or {}

    def step(self, step: int) -> dict[str, float]:
        if self.at.get(step) == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        rng = torch.Generator().manual_seed(step)
        loss = (self.weight - 2 + 0.1 * torch.randn(3, generator=rng)).square().mean()
        if self.at.get(step) == "nan":
            loss = loss * float("nan")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.at.get(step) == "spoil":  # after a healthy loss
            with torch.no_grad():
                self.weight.fill_(float("nan"))
        return {"loss": float(loss.detach())}

    def evaluate(self, step: int) -> dict[str, float]:
        return {"error": float((self.weight.detach() - 2).abs().max())}

    def state_dict(self):
        return {"weight": self.weight.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])

    def export(self, path, notes):
        return ""


def _config(out, steps: int) -> LoopConfig:
    return LoopConfig(out, steps, log_every=2, evaluate_every=4, checkpoint_every=5)


def test_a_stopped_run_goes_on_bit_by_bit(tmp_path):
    whole = _Line()
    assert train(whole, _config(tmp_path / "a", 20), progress=False) == 20
    stopped = _Line(at={7: "signal"})
    assert train(stopped, _config(tmp_path / "b", 20), progress=False) == 8
    again = _Line()
    assert train(again, _config(tmp_path / "b", 20), progress=False) == 20
    assert torch.equal(whole.weight, again.weight)
    one, two = (read_log(tmp_path / name / "evaluation.csv") for name in "ab")
    assert one == two
    steps = [row["step"] for row in read_log(tmp_path / "b" / "log.csv")]
    assert steps == [str(k) for k in range(2, 21, 2)]
    assert (tmp_path / "b" / "curves.png").stat().st_size > 1000


def test_the_signal_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(_Line(), _config(tmp_path, 2), progress=False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="at step 7: loss is nan; the checkpoint of step 5"):
        train(_Line(at={7: "nan"}), _config(tmp_path, 20), progress=False)
    healthy = _Line()
    assert train(healthy, _config(tmp_path, 20), progress=False) == 20
    assert healthy.weight.isfinite().all()


def test_weights_that_an_update_spoiled_do_not_replace_good_ones(tmp_path):
    with pytest.raises(TrainingError, match="at step 10: a weight is not finite; the checkpoint of step 5"):
        train(_Line(at={9: "spoil"}), _config(tmp_path, 20), progress=False)
    healthy = _Line()
    assert train(healthy, _config(tmp_path, 20), progress=False) == 20
    assert healthy.weight.isfinite().all()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    train(_Line(), _config(tmp_path, 5), progress=False)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match="not a checkpoint of this run"):
        train(_Line(), _config(tmp_path, 20), progress=False)


def test_a_full_disk_is_said_in_a_sentence_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    train(_Line(), _config(tmp_path, 5), progress=False)
    save = torch.save

    def full(state, file):
        save(state, file)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"no space left on the disk while writing .*checkpoint\.pt: free some space"):
        train(_Line(), _config(tmp_path, 20), progress=False)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("config", [{"evaluate_every": 100}, {"log_every": 1}])
def test_a_device_that_is_full_is_said_in_a_sentence(tmp_path, monkeypatch, config):
    """Of the checkpoint, which torch writes, and of the log."""
    real = open
    monkeypatch.setattr(loop, "open", lambda path, mode, **more: real("/dev/full", mode, **more), raising=False)
    task = _Line()
    monkeypatch.setattr(task, "evaluate", lambda step: {})
    with pytest.raises(OutputError, match="no space left on the disk"):
        train(task, LoopConfig(tmp_path, 3, **config), progress=False)


def test_a_listener_hears_what_goes_into_the_logs(tmp_path):
    heard = []
    train(_Line(), _config(tmp_path, 4), progress=False, listener=lambda *what: heard.append(what))
    assert [(step, kind) for step, kind, _ in heard] == [(2, "train"), (4, "train"), (4, "held-out")]
    assert set(heard[0][2]) == {"loss"}


def test_the_time_limit_stops_with_a_checkpoint(tmp_path):
    config = LoopConfig(tmp_path, 10**6, log_every=10**6, evaluate_every=10**6, checkpoint_every=10**6, minutes=0.002)
    done = train(_Line(), config, progress=False)
    assert 0 < done < 10**6
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == done


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 1000, warmup=100, decay=0.5) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[200] == rates[450] == 1
    assert rates[750] == pytest.approx(0.5)
    assert rates[1000] == 0


class _Phases(_Line):
    """Reports another scalar from its third step on, and only in every second step."""

    def step(self, step: int) -> dict[str, float]:
        scalars = super().step(step)
        return {**scalars, "late": float(step)} if step >= 2 and step % 2 == 0 else scalars


def test_scalars_may_come_later_and_rarely(tmp_path):
    train(_Phases(), _config(tmp_path, 6), progress=False)
    train(_Phases(), _config(tmp_path, 8), progress=False)
    rows = read_log(tmp_path / "log.csv")
    assert [row["late"] for row in rows] == ["", "2", "4", "6"]
    assert all(float(row["loss"]) > 0 and float(row["seconds"]) >= 0 for row in rows)
    assert (tmp_path / "curves.png").stat().st_size > 1000
