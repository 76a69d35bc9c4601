"""``garfast doctor``: what this installation has, what can run, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

PACKAGES = (
    "torch",
    "numpy",
    "triton",
    "face-alignment",
    "trimesh",
    "safetensors",
    "scikit-image",
    "scipy",
    "pillow",
    "click",
    "tqdm",
)


class Finding(NamedTuple):
    """One line of the report."""

    section: str
    name: str
    state: str  # 'ok', 'off' (absent, and that may be fine) or 'broken' (garfast cannot work as it should)
    detail: str
    suggestion: str = ""


def examine() -> Iterator[Finding]:
    """Look at versions, operator backends, GPU, face models and landmark sources. Downloads and changes nothing."""
    yield from _versions()
    yield from _backends()
    yield from _models()
    yield from _landmarks()


def _versions() -> Iterator[Finding]:
    from garfast import __version__

    section = "Versions"
    yield Finding(section, "garfast", "ok", __version__)
    yield Finding(section, "python", "ok", f"{platform.python_version()} ({sys.executable})")
    for package in PACKAGES:
        try:
            yield Finding(section, package, "ok", importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            optional = package == "triton"
            yield Finding(section, package, "off" if optional else "broken", "not installed", f"pip install {package}")


def _backends() -> Iterator[Finding]:
    import torch

    from garfast.ops import _native

    section = "Operator backends"
    yield Finding(section, "reference", "ok", "plain PyTorch, always there")
    missing = _native.why_not("cpu")
    if missing:
        yield Finding(section, "cpu", "broken", missing, "pip install . (needs a C++ compiler)")
    else:
        cpu = _native.cpu()
        threads = f"{torch.get_num_threads()} threads" if cpu.openmp else "no OpenMP: one thread"
        detail = f"{cpu.isa()} (built: {', '.join(cpu.isas())}), {threads}, compiler {cpu.compiler}"
        suggestion = "" if cpu.openmp else "install a compiler with OpenMP (g++) and reinstall garfast"
        yield Finding(section, "cpu", "ok" if cpu.openmp else "off", detail, suggestion)
    unbuilt, unusable = _native.cuda_missing(), _native.why_not("cuda")
    if unbuilt:
        detail, _, suggestion = unbuilt.rpartition(": ")
        # Without a GPU there is nothing to gain from building CUDA kernels.
        yield Finding(section, "cuda", "off", detail, suggestion if torch.cuda.is_available() else "")
    else:
        built = f"built for {_native.cuda().architectures}, CUDA {_cuda_version(_native.cuda().cuda_version)}"
        yield Finding(section, "cuda", "off" if unusable else "ok", f"{built}; {unusable}" if unusable else built)
    unusable = _native.why_not("triton")
    yield Finding(section, "triton", "off" if unusable else "ok", unusable or "ready")

    if not torch.cuda.is_available():
        detail = "none that PyTorch sees"
        if torch.version.cuda is None:
            detail += " (this PyTorch is built for the CPU)"
        suggestion = ""
        if Path("/proc/driver/nvidia/version").exists():
            suggestion = "an NVIDIA driver is here: install a CUDA build of PyTorch that fits it"
        yield Finding(section, "gpu", "off", detail, suggestion)
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        detail = f"{properties.name}, {properties.total_memory >> 30} GiB, sm_{properties.major}{properties.minor}"
        yield Finding(section, f"gpu {index}", "ok", detail)


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _models() -> Iterator[Finding]:
    from garfast.errors import GarfastError
    from garfast.morphable import default_model_name, list_models, load_model
    from garfast.morphable.registry import data_directory

    section = "Face models"
    yield Finding(section, "folder", "ok", str(data_directory()))
    for entry in list_models():
        try:
            model = load_model(entry.name)
        except GarfastError as error:
            yield Finding(section, entry.name, "broken", str(error), _repair(entry.path))
            continue
        size = f"{model.num_vertices} vertices, {model.num_shape} shape and {model.num_exp} expression coefficients"
        yield Finding(section, entry.name, "ok", f"{size}; {entry.path or 'inside the package'}")
    try:
        default = default_model_name()
        load_model(default)
        yield Finding(section, "default", "ok", default)
    except GarfastError as error:
        yield Finding(section, "default", "broken", str(error), _other_default())
    if "ict" not in [entry.name for entry in list_models()]:
        yield Finding(section, "ict", "off", "not imported", "garfast model download ict (more detail, MIT licence)")


def _other_default() -> str:
    """How to get a default model that works."""
    from garfast.errors import GarfastError
    from garfast.morphable import default_model_name
    from garfast.morphable.registry import settings_path

    if os.environ.get("GARFAST_MODEL"):
        return "unset GARFAST_MODEL, which overrides the stored default"
    try:
        default_model_name()
    except GarfastError:
        return f"delete {settings_path()}"
    return "garfast model default builtin"


def _repair(path: Path | None) -> str:
    return "reinstall garfast" if path is None else f"delete {path} and import it again"


def _landmarks() -> Iterator[Finding]:
    from garfast.errors import GarfastError
    from garfast.landmarks import face_alignment_source
    from garfast.landmarks.sources import embedded_present

    section = "Landmark sources"
    yield Finding(section, "file", "ok", ".pts, .txt, .npy or .json beside the photograph, or --landmarks PATH")
    ask = "garfast fit PHOTO --landmarks face-alignment fetches them"
    try:
        missing = face_alignment_source.missing_weights() if face_alignment_source.installed() else None
    except GarfastError as error:
        yield Finding(section, "face-alignment", "off", str(error), "pip install --upgrade face-alignment")
    else:
        if missing is None:
            yield Finding(section, "face-alignment", "off", "not installed", "pip install face-alignment")
        elif missing:
            files = ", ".join(str(path) for path in missing.values())
            yield Finding(section, "face-alignment", "off", f"weights not on this machine: {files}", ask)
        else:
            yield Finding(section, "face-alignment", "ok", "weights on this machine")
    if embedded_present():
        yield Finding(section, "embedded", "ok", "inside the package")
    else:
        yield Finding(section, "embedded", "off", "no weights in this package", "reinstall garfast")


@click.command()
def command() -> None:
    """Report versions, operator backends, GPU, face models and landmark sources, with one suggestion per problem.

    Exits with 1 if something that garfast needs is broken.
    """
    marks = {"ok": click.style("ok    ", fg="green"), "off": click.style("--    ", fg="yellow")}
    marks["broken"] = click.style("BROKEN", fg="red")
    section, broken = "", 0
    for finding in examine():
        if finding.section != section:
            section = finding.section
            click.echo(f"\n{section}" if broken or finding.name != "garfast" else section)
        click.echo(f"  {marks[finding.state]} {finding.name:<15} {finding.detail}")
        if finding.suggestion:
            click.echo(f"         {'':<15} -> {finding.suggestion}")
        broken += finding.state == "broken"
    if os.environ.get("GARFAST_MODEL"):
        click.echo(f"\nGARFAST_MODEL={os.environ['GARFAST_MODEL']} overrides the stored default model.")
    if broken:
        raise click.exceptions.Exit(1)
