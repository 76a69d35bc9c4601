"""Options of the commands that change a fitted face, and what they load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from garfast.errors import ArgumentError, ParametersFileError, WeightsFileError

if TYPE_CHECKING:
    from garfast.fit.changes import Setting
    from garfast.fit.latent import Latent
    from garfast.fit.saved_face import SavedFace
    from garfast.networks.renderer import Renderer

F = TypeVar("F", bound=Callable[..., Any])


def change_options(function: F) -> F:
    """``--exp``, ``--shape``, ``--yaw``, ``--pitch`` and ``--roll``; `settings_of` reads them."""
    for option in (
        click.option("--roll", metavar="DEGREES", help="Tilt of the head, positive counter-clockwise."),
        click.option("--pitch", metavar="DEGREES", help="Nod of the head, positive upward."),
        click.option("--yaw", metavar="DEGREES", help="Turn of the head, positive to image right; +=10 turns on."),
        click.option("--shape", multiple=True, metavar="NAME=VALUE", help="Identity; a name or a number from 0."),
        click.option(
            "--exp",
            multiple=True,
            metavar="NAME=VALUE",
            help="Expression, such as smile=1.5 (both sides), mouthSmile_L=2 or 3=1; NAME+=VALUE adds.",
        ),
    ):
        function = option(function)
    return function


def settings_of(
    exp: tuple[str, ...], shape: tuple[str, ...], yaw: str | None, pitch: str | None, roll: str | None
) -> list[Setting]:
    """What the options of `change_options` say, in order: shape, expression, angles.

    Raises:
        ArgumentError: an option is malformed.
    """
    from garfast.fit.changes import parse_setting

    angles = {"yaw": yaw, "pitch": pitch, "roll": roll}
    return [
        *(parse_setting("shape", text) for text in shape),
        *(parse_setting("exp", text) for text in exp),
        *(parse_setting(kind, text) for kind, text in angles.items() if text is not None),
    ]


def load_look(saved: SavedFace, weights: str | None, *, otherwise: str) -> tuple[Renderer, Latent]:
    """The renderer, and style and noise of a fit.

    Args:
        otherwise: what to do without them, for the message.

    Raises:
        WeightsFileError, ParametersFileError: what is missing, in one sentence.
    """
    from garfast.networks.renderer import SHIPPED, load_renderer

    if weights is None and not (SHIPPED / "generator.safetensors").is_file():
        raise WeightsFileError(
            f"no renderer weights came with this garfast: give a folder with --weights, or {otherwise}"
        )
    renderer = load_renderer(weights)
    from garfast.fit.latent import load_latent

    try:
        return renderer, load_latent(saved.latent)
    except ParametersFileError as error:
        raise ParametersFileError(f"{error}, or {otherwise}") from error


def parse_size(text: str) -> tuple[int, int]:
    """``512`` or ``640x480`` (width x height) as (height, width).

    Raises:
        ArgumentError: it is neither.
    """
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ArgumentError(f"--size takes pixels, such as 512 or 640x480, not {text!r}")
    return int(parts[-1]), int(parts[0])
