"""Options that several commands share, so that they are spelled and explained alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from garfast.io.atomic import check_writable

if TYPE_CHECKING:
    from garfast.fit.refine_config import RefineConfig

F = TypeVar("F", bound=Callable[..., Any])

IMPLEMENTATIONS = ("auto", "reference", "cpu", "cuda", "triton")


def model_option(function: F) -> F:
    """``--model NAME|PATH``, passed as ``model: str | None``; None is the default model of ``load_model``."""
    return click.option(
        "--model",
        metavar="NAME|PATH",
        default=None,
        shell_complete=_complete_model,
        help="Face model: a name of `garfast model list` or an .npz file. Default: see `garfast model default`.",
    )(function)


def out_folder_option(help: str = "Folder to write to.", *, required: bool = True) -> Callable[[F], F]:
    """``-o FOLDER``, passed as ``out: Path`` (None where it is not required and not given). That nothing can be written
    there is said before the work, not after it."""

    def check(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is not None:
            check_writable(value)
        return value

    return click.option(
        "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=required, callback=check, help=help
    )


def device_option(function: F) -> F:
    """``--device NAME``, passed as ``device: str``: 'auto' is resolved to 'cuda' where a GPU is usable, else 'cpu'."""
    return click.option(
        "--device",
        metavar="DEVICE",
        default="auto",
        show_default=True,
        callback=_device_name,
        help="Where to compute: auto, cpu, cuda or cuda:N.",
    )(function)


def impl_option(function: F) -> F:
    """``--impl NAME``, passed as ``impl: str``: which implementation of the operators to use."""
    return click.option(
        "--impl",
        type=click.Choice(IMPLEMENTATIONS),
        default="auto",
        show_default=True,
        help="Implementation of the operators.",
    )(function)


def refinement_options(function: F) -> F:
    """``--preset NAME`` and ``--config FILE``, passed as ``preset`` and ``config``, for :func:`refinement_settings`."""
    file = click.option(
        "--config", metavar="FILE", help="Settings of the full fit from a TOML file; see `garfast fit --show-config`."
    )
    return click.option("--preset", metavar="NAME", help="Settings of the full fit: fast, default, best or paper.")(
        file(function)
    )


def refinement_settings(preset: str | None, config: str | None) -> RefineConfig:
    """The settings that :func:`refinement_options` ask for; those of the default preset where they ask for none.

    Raises:
        ArgumentError: there is no such preset, or the file cannot be used.
    """
    from garfast.fit import refine_config
    from garfast.fit.refine_file import load_config

    if config is None:
        return refine_config.preset(preset or "default")
    if preset is not None:
        raise click.UsageError("--config and --preset exclude each other: a file may name its preset.")
    return load_config(config)


def _device_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from garfast.devices import find_device

    return str(find_device(value))


def _complete_model(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from garfast.morphable import list_models

    return [entry.name for entry in list_models() if entry.name.startswith(incomplete)]
