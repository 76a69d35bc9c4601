"""``garfast eval``: measure fits, detectors and renderers."""

from __future__ import annotations

import click

from garfast.cli.lazy import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "geometry": ("garfast.cli.eval.geometry", "Fit synthetic faces and measure their geometry in mm."),
    "nme": ("garfast.cli.eval.nme", "Landmark errors on photographs with true landmarks (AFLW2000-3D)."),
    "detector": ("garfast.cli.eval.detector", "The embedded detector, from photograph to landmarks."),
    "florence": ("garfast.cli.eval.florence", "Faces from video frames against 3D scans (Florence)."),
    "fid": ("garfast.cli.eval.fid", "Frechet distance between two sets of pictures (FID)."),
    "renderer": ("garfast.cli.eval.renderer", "Quality of a renderer on portraits that no training saw."),
}


@click.group(name="eval", cls=LazyGroup, commands_by_module=COMMANDS)
def command() -> None:
    """Measure fits, detectors and renderers. See docs/evaluation.md for what the numbers mean."""
