"""``garfast fit``: from photographs to 3D faces."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garfast.errors import GarfastError, ImageFileError

if TYPE_CHECKING:
    from garfast.fit.result import FitResult

EXAMPLE_OUTPUT = "fit-output"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("images", nargs=-1, metavar="[IMAGE|FOLDER|PATTERN]...")
@click.option("-o", "--output", metavar="FOLDER", help=f"Where to write; {EXAMPLE_OUTPUT} with --example.")
@click.option(
    "--landmarks",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="auto, face-alignment, embedded, file (beside the photograph), a .pts, .txt, .npy or .json file, or a folder.",
)
@click.option(
    "--face", default="all", show_default=True, metavar="N|all|largest", help="Which faces; 1 is the largest."
)
@click.option("--model", metavar="NAME|PATH", help="Face model; see `garfast model list`. Default: the default model.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--projection", type=click.Choice(["orthographic", "pinhole"]), default="orthographic", show_default=True)
@click.option("--overwrite", is_flag=True, help="Fit again what is done already.")
@click.option("--example", is_flag=True, help="Fit a photograph of an astronaut that scikit-image ships.")
def command(
    images: tuple[str, ...],
    output: str | None,
    landmarks: str,
    face: str,
    model: str | None,
    device: str,
    projection: str,
    overwrite: bool,
    example: bool,
) -> None:
    """Fit a 3D face to each face of photographs.

    Each face gets a folder of its own in the output folder: mesh.glb (metres), mesh.obj with .mtl and .png
    (millimetres), normals.png, overlay.png, sheet.png, report.html (opens offline; the mesh can be turned) and
    params.json (coefficients, pose, camera, landmarks).

    A photograph that was fitted before is skipped; one that fails does not stop the others, and makes the exit code 1.
    """
    from tqdm import tqdm

    from garfast.fit.batch import find_images, fit_images
    from garfast.fit.pipeline import Fitter

    if example:
        if images:
            raise click.UsageError("--example brings its own photograph: leave out the images.")
        photographs = [_example_photograph()]
        landmarks = _example_landmarks(landmarks)
        output = output or EXAMPLE_OUTPUT
    elif not images:
        raise click.UsageError("give a photograph, a folder or a pattern (or --example).")
    else:
        photographs = find_images(images)
    if output is None:
        raise click.UsageError("say where to write: -o FOLDER.")

    def make_fitter() -> Fitter:
        return Fitter(landmarks=landmarks, model=model, device=device, projection=projection)

    report = fit_images(
        photographs,
        Path(output),
        make_fitter,
        face=int(face) if face.isdecimal() else face,
        overwrite=overwrite,
        tell=lambda line: tqdm.write(line),
        done=lambda result, folder: tqdm.write(_summary(result, folder, brief=len(photographs) > 1)),
    )
    if len(photographs) > 1:
        click.echo(f"{len(report.written)} faces fitted, {len(report.skipped)} photographs skipped as done.")
    if report.failed:
        if len(photographs) == 1:
            raise GarfastError(report.failed[0][1])
        failed = len(report.failed)
        click.echo(f"Error: {failed} of {len(photographs)} photographs failed:", err=True)
        for image, sentence in report.failed:
            click.echo(f"  {image}: {sentence}", err=True)
        raise click.exceptions.Exit(1)


def _example_photograph() -> Path:
    path = Path(str(files("skimage") / "data" / "astronaut.png"))
    if not path.is_file():
        raise ImageFileError(f"this scikit-image has no photograph of the astronaut at {path}: give one of your own")
    return path


def _example_landmarks(landmarks: str) -> str:
    """Where there is no detector, the landmarks that come with the example."""
    from garfast.landmarks import example_landmarks
    from garfast.landmarks.face_alignment_source import weights_present
    from garfast.landmarks.sources import embedded_present

    nothing = landmarks == "auto" and not weights_present() and not embedded_present()
    return str(example_landmarks()) if nothing else landmarks


def _summary(result: FitResult, folder: Path, *, brief: bool) -> str:
    name = result.source.name if result.source is not None else "photograph"
    if result.face_count > 1:
        name += f", face {result.face_index} of {result.face_count}"
    residual = f"{result.mean_residual:.2f} px ({100 * result.nme:.2f} % of the face)"
    doubt = "" if result.converged else "; the fit did not converge, check the overlay"
    if brief:
        return f"{name}: residual {residual}, {result.seconds:.1f} s -> {folder}{doubt}"
    yaw, pitch, roll = (round(angle) + 0 for angle in result.angles)
    backends = ", ".join(sorted(set(result.backends.values())))
    return "\n".join(
        [
            f"{name}: {result.image.shape[1]} x {result.image.shape[0]} pixels",
            f"  landmarks  from {result.detector}",
            f"  model      {result.model.name} ({result.model.num_vertices} vertices), on {result.device} ({backends})",
            f"  residual   {residual}{doubt}",
            f"  head       yaw {yaw}°, pitch {pitch}°, roll {roll}°",
            f"  time       {result.seconds:.2f} s "
            f"({', '.join(f'{stage.name} {stage.seconds:.2f}' for stage in result.stages)})",
            f"  written    {folder}  (open {folder / 'report.html'})",
        ]
    )
