"""Timing on a GPU: the host's part is hidden, however long it is."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from garfast.ops._timing import timer


@pytest.mark.parametrize("host_seconds", [0.0, 0.02])
def test_the_gpu_pauses_until_the_host_has_queued_the_work(monkeypatch, host_seconds):
    events: list[object] = []

    def event(**_):
        return SimpleNamespace(
            record=lambda: events.append("record"), synchronize=lambda: None, elapsed_time=lambda end: 250.0
        )

    def call() -> None:
        events.append("call")
        time.sleep(host_seconds)

    for name, stand_in in {
        "device": lambda device: nullcontext(),
        "synchronize": lambda: None,
        "Event": event,
        "_sleep": events.append,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    assert timer(call, torch.device("cuda", 0))() == 0.25
    first, pause, *rest = events
    assert [first, *rest] == ["call", "record", "call", "record"]
    assert pause >= 2e9 * max(1.5 * host_seconds, 1e-3)


@pytest.mark.gpu
def test_launches_that_take_the_host_long_do_not_count():
    x = torch.zeros(1, device="cuda")

    def slow_to_launch() -> None:
        x.add_(1)
        time.sleep(0.02)
        x.add_(1)

    slow_to_launch()
    assert timer(slow_to_launch, x.device)() < 0.01
