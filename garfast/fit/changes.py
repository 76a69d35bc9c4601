"""What an edit changes: named coefficients and head angles, set (``=``) or moved (``+=``, ``-=``)."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from garfast.errors import ArgumentError, GarfastWarning
from garfast.morphable import MorphableModel

ANGLES = ("yaw", "pitch", "roll")
KINDS = ("exp", "shape", *ANGLES)

# What people call an expression -> what models call it, without the side.
_FRIENDLY: dict[str, tuple[str, ...]] = {
    "smile": ("smile", "mouthsmile"),
    "frown": ("frown", "mouthfrown"),
    "open": ("jawopen",),
    "jawopen": ("jawopen",),
    "pucker": ("pucker", "mouthpucker"),
    "kiss": ("pucker", "mouthpucker"),
    "funnel": ("lipfunnel", "mouthfunnel"),
    "dimple": ("dimple", "mouthdimple"),
    "stretch": ("mouthstretch",),
    "press": ("lippress", "mouthpress"),
    "puff": ("cheekpuff",),
    "blink": ("blink", "eyeblink"),
    "squint": ("squint", "eyesquint"),
    "wide": ("eyeswide", "eyewide"),
    "browraise": ("browraiseinner", "browraiseouter", "browinnerup", "browouterup"),
    "surprise": ("browraiseinner", "browraiseouter", "browinnerup", "browouterup", "eyeswide", "eyewide", "jawopen"),
    "browlower": ("browlower", "browdown"),
    "sneer": ("nosewrinkle", "nosesneer"),
}
_SIDES = re.compile(r"(_left|_right|_l|_r)$")
_SETTING = re.compile(r"^\s*(?P<name>[\w.]*?)\s*(?P<sign>\+|-)?=\s*(?P<value>[^=]+?)\s*$")


@dataclass(frozen=True)
class Setting:
    """One value to be changed.

    Attributes:
        kind: 'exp', 'shape', 'yaw', 'pitch' or 'roll'.
        name: of the coefficient, or its number; empty for an angle.
        value: standard deviations, or degrees.
        relative: added to what is there (``+=``) instead of put in its place.
    """

    kind: str
    name: str
    value: float
    relative: bool = False

    def __str__(self) -> str:
        label = self.kind if self.kind in ANGLES else self.name
        return f"{label} {'%+g' % self.value if self.relative else '%g' % self.value}"  # noqa: UP031


def parse_setting(kind: str, text: str) -> Setting:
    """``smile=1.5``, ``smile+=0.5`` or ``3-=1`` of a kind of coefficient; ``20``, ``+=20`` or ``-=20`` of an angle.

    Raises:
        ArgumentError: the text is none of these.
    """
    angle = kind in ANGLES
    match = _SETTING.match(text if "=" in text or not angle else f"={text}")
    expected = (
        f"--{kind} takes degrees, such as 20, or +=20 to turn the head by that much"
        if angle
        else f"--{kind} takes NAME=VALUE, such as {'smile' if kind == 'exp' else '3'}=1.5, or NAME+=VALUE to add to "
        "what is there"
    )
    if match is None or bool(match["name"]) == angle:
        raise ArgumentError(f"{expected}; not {text!r}")
    return Setting(kind, match["name"], _number(match["value"], expected, text, match["sign"]), bool(match["sign"]))


def _number(text: str, expected: str, whole: str, sign: str | None) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ArgumentError(f"{expected}; not {whole!r}") from error
    if not math.isfinite(value):
        raise ArgumentError(f"{expected}; not {whole!r}")
    return -value if sign == "-" else value


def coefficient_rows(model: MorphableModel, kind: str, name: str) -> list[int]:
    """The coefficients that a name means: its own, both sides of it, or a friendly name's.

    Args:
        model: whose names.
        kind: 'exp' or 'shape'.
        name: as the model has it, in any case and with or without underscores; without ``_left`` or ``_L`` for both
            sides; a friendly name such as 'smile', 'blink' or 'surprise'; or a number from 0.

    Raises:
        ArgumentError: there is no such coefficient; the nearest names are listed.
    """
    names = model.exp_names if kind == "exp" else model.shape_names
    if name.isdecimal():
        if int(name) < len(names):
            return [int(name)]
        raise ArgumentError(f"the model '{model.name}' has {len(names)} {kind} coefficients: 0 to {len(names) - 1}")
    wanted = _plain(name)
    exact = [row for row, own in enumerate(names) if _plain(own) == wanted]
    both = exact or [row for row, own in enumerate(names) if _base(own) == wanted]
    if not both and kind == "exp" and wanted in _FRIENDLY:
        both = [row for row, own in enumerate(names) if _base(own) in _FRIENDLY[wanted]]
    if both:
        return both
    known = {_plain(own): own for own in names} | {_base(own): _SIDES.sub("", own) for own in names}
    if kind == "exp":
        bases = {_base(own) for own in names}
        known |= {friendly: friendly for friendly, own in _FRIENDLY.items() if bases & set(own)}
    nearest = [known[match] for match in difflib.get_close_matches(wanted, known, 4, 0.5)]
    hint = f"did you mean {', '.join(dict.fromkeys(nearest))}? " if nearest else ""
    what = "expression" if kind == "exp" else "shape coefficient"
    raise ArgumentError(
        f"the model '{model.name}' has no {what} '{name}': {hint}`garfast model info {model.name}` lists all"
    )


def changed_coefficients(
    model: MorphableModel, shape: Tensor, exp: Tensor, settings: Sequence[Setting]
) -> tuple[Tensor, Tensor]:
    """Shape [1,S] and expression [1,E] after the settings, one after the other; expressions stay within their bounds.

    Raises:
        ArgumentError: there is no coefficient of a name.
    """
    shape, exp = shape.clone(), exp.clone()
    for setting in settings:
        if setting.kind in ANGLES:
            continue
        values = exp if setting.kind == "exp" else shape
        for row in coefficient_rows(model, setting.kind, setting.name):
            values[:, row] = setting.value + (values[:, row] if setting.relative else 0)
            if setting.kind == "exp":
                _within(model, row, values)
    return shape, exp


def _within(model: MorphableModel, row: int, exp: Tensor) -> None:
    low, high = model.exp_bounds[row].tolist()
    value = float(exp[0, row])
    if not low <= value <= high:
        exp[:, row] = torch.clamp(exp[:, row], low, high)
        warnings.warn(
            f"{model.exp_names[row]} goes from {low:g} to {high:g}: {float(exp[0, row]):g} stands for {value:g}",
            GarfastWarning,
            stacklevel=3,
        )


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _base(name: str) -> str:
    return _plain(_SIDES.sub("", name.lower()))
