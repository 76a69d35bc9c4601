"""``garfast completion``: the script that teaches a shell to complete garfast's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL; e.g. `garfast completion bash >> ~/.bashrc`."""
    completion = get_completion_class(shell)
    if completion is None:
        raise click.ClickException(f"this version of click knows no completion for {shell}: update click")
    root = ctx.find_root().command
    click.echo(completion(root, {}, "garfast", "_GARFAST_COMPLETE").source())
