"""The command line. Each command lives in a module of its own and is imported only when it is called."""

from __future__ import annotations

import importlib
import warnings
from typing import Any, TextIO

import click

from garfast import __version__
from garfast.errors import GarfastError, GarfastWarning

# command name -> (module that defines `command`, one line for `garfast --help`)
COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("garfast.cli.fit", "Fit 3D faces to photographs."),
    "model": ("garfast.cli.model", "List, inspect, import and fetch face models."),
    "train": ("garfast.cli.train", "Make the data that networks learn from, and train them."),
    "synth": ("garfast.cli.synth", "Write synthetic photographs of faces with known geometry."),
    "doctor": ("garfast.cli.doctor", "Report what is installed, what can run, and what to do about the rest."),
    "bench": ("garfast.cli.bench", "Time the operators against reference PyTorch code on this machine."),
    "completion": ("garfast.cli.completion", "Print the completion script for a shell."),
}


class _Cli(click.Group):
    """A group that imports a command's module on use and prints our errors as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(COMMANDS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The table's lines, so that `--help` does not import every command.
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except GarfastError as error:
                raise click.ClickException(str(error)) from error


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings are sentences for users; where in the code they arose says nothing to them."""
    if issubclass(category, GarfastWarning):
        click.echo(f"Warning: {message}", err=True)
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="garfast")
def main() -> None:
    """From one photograph to a 3D face."""
