"""``python -m garfast.morphable.builtin``: rebuild the built-in face, or draw it."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.morphable.builtin import BUILTIN_PATH


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=BUILTIN_PATH, help="Where the model is written."
)
def main(output: Path) -> None:
    """Rebuild the built-in face from its formulas."""
    from garfast.morphable.builtin.build import build_arrays, write

    write(output, build_arrays(click.echo))
    click.echo(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MB)")


if __name__ == "__main__":
    main(prog_name="python -m garfast.morphable.builtin")
