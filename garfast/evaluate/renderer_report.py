"""All measures of a renderer, and their table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from garfast.errors import ArgumentError, EvaluationError
from garfast.evaluate.features import FeatureExtractor
from garfast.evaluate.inversion_quality import inversion_curves
from garfast.evaluate.renderer_quality import (
    HeldOut,
    identity_control,
    landmark_control,
    normal_errors,
    picture_distance,
)
from garfast.evaluate.statistics import markdown_table, write_json, write_text
from garfast.networks.renderer import Renderer

MEASURES = ("normals", "landmarks", "identity", "inversion", "distance")

GOALS = {
    "normals of photographs": 8.0,
    "normals of pictures": 12.0,
    "landmarks": 2.0,
    "identity": 0.7,
    "inversion": 100,
}
"""Degrees, degrees, percent, cosine and steps."""

_INVERSIONS = (
    ("pictures", "own pictures", "from the mean style"),
    ("photos", "photographs", "from the mean style"),
    ("codes", "own pictures", "over codes"),
)


def measure_renderer_quality(
    renderer: Renderer,
    held_out: HeldOut,
    *,
    measures: Sequence[str] = MEASURES,
    extractor: FeatureExtractor | None = None,
    batch: int = 16,
    faces: int = 32,
    looks: int = 64,
    inversions: int = 8,
    steps: int = 200,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a renderer; what it lacks a network for is noted instead of measured.

    Args:
        renderer: loaded, on the device to compute on.
        held_out: portraits.
        measures: some of `MEASURES`.
        extractor: of the distance between sets; the renderer's own features where None.
        batch: pictures at once.
        faces, looks: of the landmarks' control.
        inversions, steps: faces and steps of the inversion's comparison.
        tell: is called with the name of each measure as it begins.

    Returns:
        JSON values: for each measure its figures, or ``{"not_measured": why}``.

    Raises:
        ArgumentError: a measure is unknown.
    """
    unknown = sorted(set(measures) - set(MEASURES))
    if unknown:
        raise ArgumentError(f"there is no measure {unknown[0]!r}: expected some of {', '.join(MEASURES)}")

    def landmarks() -> dict[str, Any]:
        from garfast.landmarks.embedded import load_networks

        device = str(renderer.generator.constant.device)
        marker = load_networks(device=device).marker
        return landmark_control(renderer, held_out, marker, faces=faces, looks=looks, batch=batch)

    def distance() -> dict[str, Any]:
        value, floor = picture_distance(renderer, held_out, extractor, batch=batch)
        return asdict(value) | {"halves": asdict(floor)}

    def inversion() -> dict[str, Any]:
        curves = inversion_curves(renderer, held_out, faces=inversions, steps=steps)
        return {name: asdict(curve) for name, curve in curves.items()}

    work: dict[str, Callable[[], dict[str, Any]]] = {
        "normals": lambda: normal_errors(renderer, held_out, batch=batch),
        "landmarks": landmarks,
        "identity": lambda: identity_control(renderer, held_out, persons=2 * faces, batch=batch),
        "inversion": inversion,
        "distance": distance,
    }
    out: dict[str, Any] = {}
    for name in MEASURES:
        if name in measures:
            tell(name)
            torch.manual_seed(0)
            try:
                out[name] = work[name]()
            except EvaluationError as error:
                out[name] = {"not_measured": str(error)}
    return out


def renderer_table(results: dict[str, Any]) -> str:
    """The results as a Markdown table with the goals."""
    rows: list[list[str]] = []

    def add(what: str, value: str, goal: str = "", reached: bool | None = None) -> None:
        rows.append([what, value, goal, "" if reached is None else ("yes" if reached else "no")])

    for name, figures in results.items():
        if "not_measured" in figures:
            add(name, f"not measured: {figures['not_measured']}")
        elif name == "normals":
            photos, pictures = figures["photos"], figures["pictures"]
            limit, loose = GOALS["normals of photographs"], GOALS["normals of pictures"]
            add("N(photograph) to true normals", f"{photos:.2f}°", f"< {limit:g}°", photos < limit)
            add("the same at the renderer's size", f"{figures['photos_small']:.2f}°")
            add("N(G(n, z)) to n", f"{pictures:.2f}°", f"< {loose:g}°", pictures < loose)
        elif name == "landmarks":
            spread = figures["spread"]
            add("one n, many z: landmarks", f"{spread:.2f} %", f"< {GOALS[name]:g} %", spread < GOALS[name])
            add("the same, worst face", f"{figures['worst_face']:.2f} %")
            add("landmarks of pictures to the truth", f"{figures['truth']:.2f} %")
            add("landmarks of photographs to the truth", f"{figures['truth_photos']:.2f} %")
            add("one n, many z: contrast of colours", f"{figures['contrast']:.1f} of 255")
        elif name == "identity":
            same = figures["same_z"]
            add("one z and shape, two poses: cosine", f"{same:.3f}", f"> {GOALS[name]:g}", same > GOALS[name])
            add("two z, one shape: cosine", f"{figures['other_z']:.3f}", "smaller", figures["other_z"] < same)
            add("two z and shapes: cosine", f"{figures['others']:.3f}", "smaller", figures["others"] < same)
            add("photographs of one person: cosine", f"{figures['photos_same']:.3f}")
            add("photographs of two: cosine", f"{figures['photos_others']:.3f}")
        elif name == "inversion":
            for kind, label, start in _INVERSIONS:
                curve = figures[kind]
                for error, value in curve["inverter"].items():
                    saved = curve["saved"][error]
                    steps = f"> {curve['steps'][-1]}" if saved is None else str(saved)
                    goal = f">= {GOALS[name]:g}" if kind != "photos" else ""
                    # An error that was never reached says nothing beyond the steps that were made.
                    most = curve["steps"][-1] if saved is None else saved
                    reached = most >= GOALS[name] if goal else None
                    if kind != "codes":  # the same pictures again
                        add(f"{label}: {error} error of G(n, V(I))", f"{value:.4f}")
                    add(f"{label}: steps to reach its {error} error {start}", steps, goal, reached)
        else:
            add(f"Frechet distance to photographs ({figures['note']})", f"{figures['distance']:.3f}")
            if figures["extrapolated"] is not None:
                add("the same with infinitely many pictures", f"{figures['extrapolated']:.3f}")
            add("between two halves of the photographs", f"{figures['halves']['distance']:.3f}")
    return markdown_table(["held-out portraits", "measured", "goal", "reached"], rows)


def write_renderer_report(results: dict[str, Any], folder: Path, settings: dict[str, Any]) -> str:
    """Write ``renderer.json`` and ``renderer.md``; returns the Markdown text.

    Raises:
        OutputError: a file cannot be written.
    """
    text = renderer_table(results)
    write_json(folder / "renderer.json", {"settings": settings, "measures": results, "goals": GOALS})
    write_text(folder / "renderer.md", text)
    return text
