"""A fit as a folder: meshes, pictures, report and parameters, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from garfast.errors import OutputError
from garfast.fit.latent import FILE_NAME as LATENT_FILE
from garfast.fit.latent import save_latent
from garfast.fit.pictures import normals_picture, overlay_picture, sheet_picture
from garfast.fit.result import FitResult
from garfast.io.atomic import atomic_folder, holds_only
from garfast.io.images import write_image
from garfast.io.meshes import glb_bytes, write_obj
from garfast.io.parameters import FILE_NAME, save_parameters
from garfast.io.report import write_report

REPORT_FILE = "report.html"
OUTPUT_FILES = (
    "mesh.glb",
    "mesh.obj",
    "mesh.mtl",
    "mesh.png",
    "normals.png",
    "overlay.png",
    "sheet.png",
    REPORT_FILE,
    FILE_NAME,
)


def save_result(result: FitResult, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write `OUTPUT_FILES` into ``folder``, which appears with all of them or not at all.

    Where a renderer took part, its latent goes there as well (`garfast.fit.latent`).

    Args:
        overwrite: whether to replace a folder that an earlier fit wrote. A folder with other files in it is never
            replaced.

    Returns:
        The folder.

    Raises:
        OutputError: the folder exists already, or cannot be written.
        ArgumentError: a value of the fit is NaN or infinite.
    """
    target = Path(folder)
    if (target / FILE_NAME).is_file() and not overwrite:
        raise OutputError(f"{target} holds a fit already: overwrite it (--overwrite) or choose another output folder")
    with atomic_folder(target, replace=overwrite and is_fit(target)) as staging:
        mesh = result.mesh_arrays()
        glb = glb_bytes(mesh)
        (staging / "mesh.glb").write_bytes(glb)
        write_obj(staging / "mesh.obj", mesh)
        sheet = sheet_picture(result)
        write_image(staging / "normals.png", normals_picture(result.normals, result.mask))
        write_image(staging / "overlay.png", overlay_picture(result))
        write_image(staging / "sheet.png", sheet)
        write_report(
            staging / REPORT_FILE,
            title=result.source.name if result.source is not None else "Fitted face",
            glb=glb,
            facts=report_facts(result),
            pictures={"photograph, landmarks, mesh, normals, texture and turned views": sheet},
            links=[name for name in OUTPUT_FILES if name != REPORT_FILE],
        )
        if result.appearance is not None:
            save_latent(staging / LATENT_FILE, result.appearance.latent)
        save_parameters(staging / FILE_NAME, result.parameters())
    return target


def is_fit(folder: Path) -> bool:
    """Whether `save_result` wrote a folder and all that is in it."""
    return (folder / FILE_NAME).is_file() and holds_only(folder, {*OUTPUT_FILES, LATENT_FILE})


def refinement_fact(result: FitResult) -> str:
    """What became of the refinement, in words; empty where there was no renderer."""
    if result.appearance is None:
        return ""
    refinement = result.appearance.refinement
    if refinement is None:
        return "none: inversion only"
    return f"{'kept' if refinement['kept'] else 'not kept'}: {refinement['reason']}"


def report_facts(result: FitResult) -> dict[str, str]:
    """What a person wants to know about a fit, in words."""
    yaw, pitch, roll = (round(angle, 1) + 0 for angle in result.angles)  # + 0 makes -0.0 into 0.0
    size = (result.vertices.max(0) - result.vertices.min(0)).round().astype(int)
    strongest = sorted(zip(result.model.exp_names, result.exp, strict=True), key=lambda pair: -abs(pair[1]))
    expression = ", ".join(f"{name} {value:.1f}" for name, value in strongest[:4] if abs(value) >= 0.3)
    facts = {
        "Photograph": f"{result.image.shape[1]} × {result.image.shape[0]} pixels",
        "Face": f"{result.face_index} of {result.face_count}" if result.face_count > 1 else "the only one found",
        "Landmarks": f"from {result.detector}",
        "Model": f"{result.model.name} ({result.model.num_vertices} vertices)",
        "Landmark residual": f"{result.mean_residual:.2f} pixels on average, {100 * result.nme:.2f} % of the face",
        "Converged": "yes" if result.converged else "no: check the overlay",
        "Head": f"yaw {yaw}°, pitch {pitch}°, roll {roll}°",
        "Mesh": f"{size[0]} × {size[1]} × {size[2]} mm",
        "Expression": expression or "neutral",
        "Refinement": refinement_fact(result),
        "Camera": result.camera.projection,
        "Stages": ", ".join(f"{stage.name} {stage.seconds:.2f} s" for stage in result.stages),
        "Computed on": f"{result.device} ({', '.join(f'{op}: {impl}' for op, impl in result.backends.items())})",
    }
    return {name: value for name, value in facts.items() if value}
