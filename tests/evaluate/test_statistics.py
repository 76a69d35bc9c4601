from __future__ import annotations

import json

import numpy as np
import pytest

from garfast.errors import ArgumentError
from garfast.evaluate.statistics import compare, markdown_table, summarise, write_csv, write_json


def test_a_summary_of_known_numbers():
    summary = summarise([1.0, 2, 3, 4])
    assert (summary.count, summary.mean, summary.median) == (4, 2.5, 2.5)
    assert summary.std == pytest.approx(np.sqrt(5 / 3))
    assert summary.low < 2.5 < summary.high


def test_the_interval_has_the_width_that_theory_says():
    numbers = np.random.default_rng(0).normal(10, 2, 400)
    summary = summarise(numbers)
    half = 1.96 * numbers.std(ddof=1) / 20
    assert summary.high - summary.low == pytest.approx(2 * half, rel=0.06)
    assert summarise(numbers) == summary


def test_one_number_and_none():
    assert summarise([3.0]).std == 0
    with pytest.raises(ArgumentError, match="at least one number"):
        summarise([])
    with pytest.raises(ArgumentError, match="finite"):
        summarise([1.0, np.nan])


def test_paired_differences():
    result = compare([3.0, 3, 3, 3], [2.0, 2, 2, 4])
    assert result.difference.mean == -0.5
    assert result.better == 0.75
    with pytest.raises(ArgumentError, match="as many"):
        compare([1.0], [1.0, 2.0])


def test_files(tmp_path):
    table = markdown_table(["name", "mm"], [["a", "1.0"], ["longer", "22.5"]])
    assert table.splitlines() == ["| name   |   mm |", "| ------ | ---: |", "| a      |  1.0 |", "| longer | 22.5 |"]
    write_json(tmp_path / "x.json", {"a": np.float32(1.5), "b": float("nan"), "c": np.arange(2), 3: [np.int64(1)]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1.5, "b": None, "c": [0, 1], "3": [1]}
    write_csv(tmp_path / "x.csv", ["a", "b"], [[1, "x,y"]])
    assert (tmp_path / "x.csv").read_text() == 'a,b\n1,"x,y"\n'
