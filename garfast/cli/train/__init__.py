"""``garfast train``: make the data that networks learn from, and train them."""

from __future__ import annotations

import click

from garfast.cli.lazy import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "renders": ("garfast.cli.train.renders", "Render faces for the detector's trainings."),
    "portraits": (
        "garfast.cli.train.portraits",
        "Draw aligned faces with their geometry for the renderer's trainings.",
    ),
    "gar": ("garfast.cli.train.gar", "Train the renderer G against its adversary."),
    "faces": ("garfast.cli.train.faces", "Train the face finder of the embedded detector."),
    "landmarks": ("garfast.cli.train.landmarks", "Train the landmark network of the embedded detector."),
    "normals": ("garfast.cli.train.normals", "Train the network that estimates normal maps."),
    "inverter": ("garfast.cli.train.inverter", "Train the network that finds a picture's latent code and noise."),
    "identity": ("garfast.cli.train.identity", "Train the identity network and the perceptual distance."),
}


@click.group(name="train", cls=LazyGroup, commands_by_module=COMMANDS)
def command() -> None:
    """Make the data that networks learn from, and train them.

    Every training can be stopped at any moment (Ctrl-C, SIGTERM) and goes on where it was when the same command is
    given again.
    """
