from __future__ import annotations

import pytest
import torch

from garfast.train import precision


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu sse2 avx2 avx512f", False),
        ("model name\t: bf16 for everybody", False),
    ],
)
def test_the_processor_is_asked_whether_it_multiplies_bfloat16(tmp_path, monkeypatch, line, has):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(precision, "_CPUINFO", file)
    assert precision.cpu_has_bfloat16.__wrapped__() == has


def test_where_the_processor_cannot_be_asked_it_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "none")
    assert precision.cpu_has_bfloat16.__wrapped__() is False


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_used_where_it_is_wanted_and_there(monkeypatch, has):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has)
    x = torch.ones(2, 2)
    with precision.autocast("cpu", True):
        assert (x @ x).dtype == (torch.bfloat16 if has else torch.float32)
    with precision.autocast("cpu", False):
        assert (x @ x).dtype == torch.float32
