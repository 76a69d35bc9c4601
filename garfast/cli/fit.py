"""``garfast fit``: from photographs to 3D faces."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garfast.cli.options import refinement_options, refinement_settings
from garfast.errors import GarfastError, ImageFileError

if TYPE_CHECKING:
    from garfast.fit.batch import BatchReport
    from garfast.fit.result import FitResult


class _FitCommand(click.Command):
    """Its help ends with the stages and presets of the full fit, read from where they are defined."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from garfast.fit.refine_config import preset
        from garfast.fit.refine_file import preset_rows, stage_rows

        with formatter.section("Stages of the full fit (--show-config prints all about them)"):
            formatter.write_dl(stage_rows(preset("default")))
        with formatter.section("Presets and the steps of their stages"):
            formatter.write_dl(preset_rows())


@click.command(cls=_FitCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("images", nargs=-1, metavar="[IMAGE|FOLDER|PATTERN]...")
@click.option("-o", "--output", metavar="FOLDER", default="fit-output", show_default=True, help="Where to write.")
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
@click.option(
    "--stages",
    type=click.Choice(["landmarks", "inversion", "full"]),
    help="How far to go: the landmark fit alone; with the renderer's style and noise; all of it. Default: full where "
    "there are weights of a renderer, else landmarks.",
)
@click.option("--weights", metavar="FOLDER", help="The renderer's networks. Default: those that come with the package.")
@refinement_options
@click.option(
    "--texture-size",
    type=click.IntRange(64, 8192),
    metavar="PIXELS",
    help="Side of the texture. Default: 512, or 1024 where the photograph shows more than that holds.",
)
@click.option("--show-config", is_flag=True, help="Print the settings as TOML, ready to be changed, and stop.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Faces or frames computed together; more need more memory.",
)
@click.option("--same-person", is_flag=True, help="All photographs show one person: fit one shape to them together.")
@click.option("--sequence", is_flag=True, help="The images are the frames of a film, in the order of their names.")
@click.option("--fps", type=click.FloatRange(0.01), help="Frames a second of a sequence. Default: the film's, else 25.")
@click.option(
    "--smooth",
    type=click.FloatRange(0, 10),
    default=0.04,
    show_default=True,
    metavar="SECONDS",
    help="Films: shorter motions are noise.",
)
@click.option("--overwrite", is_flag=True, help="Fit again what is done already.")
@click.option("--example", is_flag=True, help="Fit a photograph of an astronaut that scikit-image ships.")
def command(
    images: tuple[str, ...],
    output: str,
    landmarks: str,
    face: str,
    model: str | None,
    device: str,
    projection: str,
    stages: str | None,
    weights: str | None,
    preset: str | None,
    config: str | None,
    texture_size: int | None,
    show_config: bool,
    batch: int,
    same_person: bool,
    sequence: bool,
    fps: float | None,
    smooth: float,
    overwrite: bool,
    example: bool,
) -> None:
    """Fit a 3D face to each face of photographs.

    Each face gets a folder of its own in the output folder: mesh.glb (metres), mesh.obj with .mtl and .png
    (millimetres), normals.png, overlay.png, sheet.png, report.html (opens offline; the mesh can be turned) and
    params.json (coefficients, pose, camera, landmarks); with a renderer, latent.safetensors (style and noise) as well.

    A photograph that was fitted before is skipped; one that fails does not stop the others, and makes the exit code 1.
    With --same-person all are fitted together, into folders that hold no fits yet.

    The full fit first finds the face from its landmarks, then style and noise by inverting the renderer, and then
    descends in stages on shape, expression, pose, style and noise together. It is kept only where the face's normals
    lie nearer to those seen in the photograph and the landmarks are met about as well; else the landmark fit stays.

    A film (.mp4, .mov, an animated .gif ...), or a folder of frames with --sequence, gets one shape, a smooth pose and
    expression in every frame, and the film with the mesh over it; frames without a face are bridged and reported. Each
    frame's full fit starts from that of the frame before.

    Several processes share the photographs: torchrun --nproc-per-node 2 -m garfast fit FOLDER -o OUT.
    """
    from tqdm import tqdm

    from garfast.cli.fit_together import check_alone, films_among, fit_film, frame_files
    from garfast.fit.batch import as_expected, find_images, fit_images, output_names
    from garfast.fit.pipeline import Fitter
    from garfast.fit.same_person import fit_same_person
    from garfast.fit.sharing import process_count, sharing
    from garfast.landmarks.files import SUFFIXES

    refinement = refinement_settings(preset, config)
    films: list[Path] = []
    if show_config:
        from garfast.fit.refine_file import config_text

        click.echo(config_text(refinement), nl=False)
        return
    if example:
        if images:
            raise click.UsageError("--example brings its own photograph: leave out the images.")
        photographs = [_example_photograph()]
        landmarks = _example_landmarks(landmarks)
    elif not images:
        raise click.UsageError("give a photograph, a folder or a pattern (or --example).")
    else:
        films = [] if sequence else films_among(images)
        photographs = [] if sequence or films else find_images(images)
    if (films or sequence or len(photographs) > 1) and Path(landmarks).suffix.lower() in SUFFIXES:
        raise click.UsageError(f"--landmarks {landmarks} is the file of one photograph: name a folder of such files.")
    new_fitter = partial(
        Fitter,
        landmarks=landmarks,
        model=model,
        projection=projection,
        stages=stages,
        weights=weights,
        refinement=refinement,
        texture_size=texture_size,
    )
    if process_count() > 1 and (films or sequence or same_person):
        what = "--same-person" if same_person else "a film"
        raise click.UsageError(f"{what} is one fit, by one process: start it without torchrun.")
    if films or sequence:
        kind = "--sequence" if sequence else "a film"
        check_alone(kind, {"--same-person": same_person, "--example": example})
        if face not in ("all", "largest"):
            raise click.UsageError(f"{kind} is fitted by its largest face: leave out --face {face}.")
        files = frame_files(images) if sequence else None
        if files is not None:
            films = [Path(images[0]).resolve() if Path(images[0]).is_dir() else files[0].resolve().parent]
        failed: list[tuple[Path, str]] = []
        for film, name in zip(films, output_names(films), strict=True):
            try:
                text = fit_film(
                    film,
                    files,
                    Path(output) / name,
                    partial(new_fitter, device=device),
                    projection=projection,
                    smoothing=smooth,
                    fps=fps,
                    batch=batch,
                    overwrite=overwrite,
                )
                click.echo(text)
            except Exception as error:  # it must not cost the films that follow
                failed.append((film, str(as_expected(error))))
        _fail(failed, len(films), "films")
        return

    def tell(line: str) -> None:
        tqdm.write(line)
        sys.stdout.flush()  # before what goes to stderr

    with sharing() as share:
        own_gpu = share is not None and device == "auto" and _several_gpus()

        def make_fitter() -> Fitter:
            return new_fitter(
                device=f"cuda:{share.local_rank}" if share is not None and own_gpu else device,
                shared_shape=same_person,
                at_once=batch if same_person else None,
            )

        if same_person:
            report = fit_same_person(
                photographs,
                Path(output),
                make_fitter,
                face="largest" if face == "all" else face,
                overwrite=overwrite,
                tell=tell,
                done=lambda result, folder: tell(_summary(result, folder, brief=True)),
            )
            _finish(report, len(photographs))
            return
        report = fit_images(
            photographs,
            Path(output),
            make_fitter,
            face=int(face) if face.isdecimal() else face,
            overwrite=overwrite,
            batch=batch,
            progress=share is None,
            tell=tell,
            done=lambda result, folder: tell(_summary(result, folder, brief=len(photographs) > 1)),
            share=share,
        )
        if share is not None:
            reports = share.gather(report)
            if reports is None:
                return
            report = reports[0].merged(reports[1:])
    _finish(report, len(photographs))


def _finish(report: BatchReport, photographs: int) -> None:
    """Say how many were fitted, and fail if one was not."""
    if photographs > 1:
        click.echo(f"{len(report.written)} faces fitted, {len(report.skipped)} photographs skipped as done.")
    _fail(report.failed, photographs, "photographs")


def _fail(failed: Sequence[tuple[Path, str]], count: int, what: str) -> None:
    """Say what failed of so many photographs or films, and fail, unless nothing did."""
    if not failed:
        return
    if count == 1:
        raise GarfastError(failed[0][1])
    number = len({path for path, _ in failed})  # of one photograph several faces may fail
    click.echo(f"Error: {number} of {count} {what} failed:", err=True)
    for path, sentence in failed:
        click.echo(f"  {path}: {sentence}", err=True)
    raise click.exceptions.Exit(1)


def _several_gpus() -> bool:
    import torch

    return torch.cuda.device_count() > 1


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
    from garfast.fit.output import refinement_fact

    name = result.source.name if result.source is not None else "photograph"
    if result.face_count > 1:
        name += f", face {result.face_index} of {result.face_count}"
    residual = f"{result.mean_residual:.2f} px ({100 * result.nme:.2f} % of the face)"
    doubt = "" if result.converged else "; the fit did not converge, check the overlay"
    warning = None if result.appearance is None else result.appearance.warning
    if brief:
        return f"{name}: residual {residual}, {result.seconds:.1f} s -> {folder}{doubt}" + (
            f". {warning}" if warning else ""
        )
    yaw, pitch, roll = (round(angle) + 0 for angle in result.angles)
    backends = ", ".join(sorted(set(result.backends.values())))
    refinement = refinement_fact(result)
    return "\n".join(
        [
            f"{name}: {result.image.shape[1]} x {result.image.shape[0]} pixels",
            f"  landmarks  from {result.detector}",
            f"  model      {result.model.name} ({result.model.num_vertices} vertices), on {result.device} ({backends})",
            f"  residual   {residual}{doubt}",
            *([f"  refinement {refinement}"] if refinement else []),
            f"  head       yaw {yaw}°, pitch {pitch}°, roll {roll}°",
            f"  time       {result.seconds:.2f} s "
            f"({', '.join(f'{stage.name} {stage.seconds:.2f}' for stage in result.stages)})",
            f"  written    {folder}  (open {folder / 'report.html'})",
        ]
    )
