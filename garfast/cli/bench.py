"""``garfast bench``: the operators against reference PyTorch ops on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import device_option, out_folder_option

OPERATORS = ("modulated_conv2d", "noise_bias_act", "upfirdn2d", "vertex_normals", "rasterize_normals")


@click.command()
@out_folder_option("Folder for results.json, results.csv and plots.", required=False)
@click.option("--op", "operators", type=click.Choice(OPERATORS), multiple=True, help="Only this operator; repeatable.")
@click.option("--batch", "batches", type=click.IntRange(1), multiple=True, default=(1, 4), show_default=True)
@device_option
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default=None, help="float32 on the CPU."
)
@click.option("--max-resolution", type=click.IntRange(4, 256), default=None, help="Largest layer; 64 on the CPU.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="Time to spend on each measurement.",
)
@click.option("--compiled", is_flag=True, help="Also measure the reference through torch.compile.")
def command(
    out: Path | None,
    operators: tuple[str, ...],
    batches: tuple[int, ...],
    device: str,
    dtype: str | None,
    max_resolution: int | None,
    seconds: float,
    compiled: bool,
) -> None:
    """Time every operator against the reference PyTorch operations, side by side, and print a table.

    Medians of interleaved runs. Last come the shares of what the measured copy bandwidth and matrix rate allow, and of
    the speed of x.clone(), which like an operator writes into newly allocated memory.
    """
    import torch

    from garfast.bench import report, suite

    result = suite.run(
        device,
        operators or OPERATORS,
        batches,
        dtype=getattr(torch, dtype) if dtype else None,
        max_resolution=max_resolution,
        seconds=seconds,
        compiled=compiled,
    )
    click.echo(report.table(result.rows, result.ceiling))
    if out:
        for path in report.save(out, result.rows, result.ceiling, report.machine(device)):
            click.echo(f"wrote {path}")
