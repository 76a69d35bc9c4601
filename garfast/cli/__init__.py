"""The command line. Each command lives in a module of its own and is imported only when it is called."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Any, TextIO

import click

from garfast import __version__
from garfast.cli.lazy import LazyGroup
from garfast.errors import GarfastError, GarfastWarning
from garfast.io.cores import scheduled_cores, usable_cores

# command name -> (module that defines `command`, one line for `garfast --help`)
COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("garfast.cli.fit", "Fit 3D faces to photographs."),
    "edit": ("garfast.cli.edit", "Change a fitted face's expression, pose or identity in its photograph."),
    "render": ("garfast.cli.render", "Draw a face from its parameters."),
    "model": ("garfast.cli.model", "List, inspect, import and fetch face models."),
    "train": ("garfast.cli.train", "Make the data that networks learn from, and train them."),
    "align": ("garfast.cli.align", "Put photographs on the renderer's landmark template."),
    "synth": ("garfast.cli.synth", "Write synthetic photographs of faces with known geometry."),
    "eval": ("garfast.cli.eval", "Measure fits, detectors and renderers."),
    "doctor": ("garfast.cli.doctor", "Report what is installed, what can run, and what to do about the rest."),
    "bench": ("garfast.cli.bench", "Time the operators against reference PyTorch code on this machine."),
    "completion": ("garfast.cli.completion", "Print the completion script for a shell."),
}


class _Cli(LazyGroup):
    """The whole command line: prints our errors and warnings as one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        _set_up_pytorch()
        if isinstance(sys.stdout, TextIOWrapper):  # as stderr is: names of files may be no text
            sys.stdout.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except GarfastError as error:
                raise click.ClickException(str(error)) from error
            except PermissionError as error:
                if error.filename is None:
                    raise
                raise click.ClickException(f"no permission to use {error.filename}: see its owner") from error
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                raise click.ClickException(f"the name {str(error.filename)[:60]}... is too long for a file") from error


def _set_up_pytorch() -> None:
    """Ask, through the environment, for what suits networks on a CPU; before PyTorch is imported."""
    # Tensors of 2 MiB and more in huge pages, where Linux leaves that to programs: large ones are given back and
    # supplied anew for every operation, a page fault for each 4 KiB.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # A thread that waits for the others of a parallel region is to spin for some 20 microseconds before it sleeps, not
    # for a millisecond: where it shares the cores with another program, it spins while the one it waits for stands
    # still, thousands of times a second. Alone, a fit takes 5 % longer for it; two at once on two cores take a tenth
    # of the time.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # Of a container's limit OpenMP knows nothing: on 64 cores, of whose time two cores' worth may be used, it would
    # have 64 threads wait for one another.
    cores = usable_cores()
    if cores < scheduled_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


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


@click.group(cls=_Cli, commands_by_module=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="garfast")
def main() -> None:
    """From one photograph to a 3D face."""
