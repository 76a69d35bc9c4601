"""``python -m garfast.morphable.builtin``: rebuild the built-in face, or draw it."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.morphable.builtin import BUILTIN_PATH, load_builtin


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=BUILTIN_PATH, help="Where the model goes.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Draw the present model into this PNG instead.")
@click.option(
    "--show",
    type=click.Choice(["overview", "identity", "expression"]),
    default="overview",
    help="What the sheet shows: an overview, or every mode at both ends of its range.",
)
def main(output: Path, sheet: Path | None, show: str) -> None:
    """Rebuild the built-in face from its formulas."""
    if sheet is not None:
        from garfast.morphable.builtin.sheet import modes, overview, save

        model = load_builtin()
        save(sheet, overview(model) if show == "overview" else modes(model, show))
        click.echo(f"wrote {sheet}")
        return
    from garfast.morphable.builtin.build import build_arrays, write

    write(output, build_arrays(click.echo))
    click.echo(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MB)")


if __name__ == "__main__":
    main(prog_name="python -m garfast.morphable.builtin")
