"""The refinement's settings as TOML: read from a file of the user's, and written for people to read and change."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from garfast.errors import ArgumentError
from garfast.fit.refine_config import PRESETS, RefineConfig, RefineStage, preset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def load_config(path: str | os.PathLike[str]) -> RefineConfig:
    """Read settings. What a file leaves out keeps the value of its ``preset`` ('default' where it names none).

    The file's tables ``[[stage]]`` replace all stages of the preset; a stage of the preset's name starts from its
    values, so that a file need not repeat them.

    Raises:
        ArgumentError: the file is missing or no TOML, or names or values in it are wrong.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"cannot read the settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"the settings {path} are no TOML: {error}") from error
    try:
        return config_from(content)
    except ArgumentError as error:
        raise ArgumentError(f"in the settings {path}: {error}") from error


def config_from(content: dict[str, Any]) -> RefineConfig:
    """Settings from the tables of a TOML file.

    Raises:
        ArgumentError: a name is unknown or a value is wrong.
    """
    content = dict(content)
    base = preset(_text(content.pop("preset", "default"), "preset"))
    tables = content.pop("stage", None)
    if tables is None:
        stages = base.stages
    else:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ArgumentError("stages are tables [[stage]]")
        stages = tuple(_stage(table, base) for table in tables)
    if "stages" in content:
        raise ArgumentError("stages are tables [[stage]], not a value 'stages'")
    return replace(_changed(base, content, "settings"), stages=stages)


def config_text(config: RefineConfig) -> str:
    """Settings as a TOML file that `load_config` reads; every value is there."""
    lines = [_line(f.name, getattr(config, f.name)) for f in fields(config) if f.name != "stages"]
    for stage in config.stages:
        lines += ["", "[[stage]]"]
        values = {f.name: getattr(stage, f.name) for f in fields(stage)}
        weights, rates = values.pop("weights"), values.pop("rates")
        lines += [_line(name, value) for name, value in values.items()]
        lines += ["[stage.weights]", *(_line(name, value) for name, value in asdict(weights).items())]
        lines += ["[stage.rates]", *(_line(name, value) for name, value in asdict(rates).items())]
    return "\n".join(lines) + "\n"


def stage_rows(config: RefineConfig) -> list[tuple[str, str]]:
    """What each stage moves, by how much and for which losses: names and texts, for ``--help``."""
    rows = []
    for stage in config.stages:
        rates = ", ".join(f"{name} {getattr(stage.rates, name):g}" for name in stage.optimise)
        weights = ", ".join(f"{name} {value:g}" for name, value in asdict(stage.weights).items() if value)
        rows.append(
            (stage.name, f"{stage.steps} steps at most. Moves, by rate: {rates}. Losses, by weight: {weights}.")
        )
    return rows


def preset_rows() -> list[tuple[str, str]]:
    """The presets and how many steps their stages have: names and texts, for ``--help``."""
    return [
        (name, f"latent {config.latent}; " + ", ".join(f"{stage.name} {stage.steps}" for stage in config.stages))
        for name, config in PRESETS.items()
    ]


def _stage(table: dict[str, Any], base: RefineConfig) -> RefineStage:
    table = dict(table)
    name = _text(table.pop("name", ""), "name")
    known = {stage.name: stage for stage in base.stages}
    if name not in known and "steps" not in table:
        raise ArgumentError(f"stage '{name}' needs a number of steps: it is none of {', '.join(known)}")
    stage = known.get(name, RefineStage(name, 1))
    weights = _changed(stage.weights, _table(table, "weights"), f"weights of stage '{name}'")
    rates = _changed(stage.rates, _table(table, "rates"), f"rates of stage '{name}'")
    optimise = table.pop("optimise", None)
    if optimise is not None:
        if not isinstance(optimise, list) or not all(isinstance(group, str) for group in optimise):
            raise ArgumentError(f"stage '{name}': optimise is a list of names")
        stage = replace(stage, optimise=tuple(optimise))
    return replace(_changed(stage, table, f"stage '{name}'"), weights=weights, rates=rates)


def _changed(settings: T, values: dict[str, Any], what: str) -> T:
    """A copy with other values, each of the type that was there."""
    # What the settings call stages are tables of their own in a file.
    known = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "stages"}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ArgumentError(f"{what} have no '{name}': known are {', '.join(known)}")
        kind = type(known[name])
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind is float and number:
            value = float(value)
        elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ArgumentError(f"'{name}' of {what} must be of type {kind.__name__}, not {value!r}")
        changes[name] = value
    return replace(settings, **changes)  # type: ignore[type-var]


def _table(owner: dict[str, Any], name: str) -> dict[str, Any]:
    value = owner.pop(name, {})
    if not isinstance(value, dict):
        raise ArgumentError(f"{name} is a table of numbers")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{name} is a text in quotes, not {value!r}")
    return value


def _line(name: str, value: Any) -> str:
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, str):
        value = f'"{value}"'
    elif isinstance(value, tuple):
        value = "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f"{name} = {value}"
