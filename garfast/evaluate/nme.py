"""Landmark errors as AFLW2000-3D's protocol states them: what `garfast eval nme` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.errors import ArgumentError, EvaluationError, GarfastError, NoFaceError
from garfast.evaluate.landmark_truth import LandmarkTruth
from garfast.evaluate.statistics import Summary, markdown_table, summarise, write_csv, write_json, write_text
from garfast.io.images import read_image
from garfast.landmarks import Detection
from garfast.landmarks.boxes import intersection_over_union
from garfast.morphable import MorphableModel

BINS = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))
"""Degrees of yaw; a face of more than 90 counts to the last."""

Floats = NDArray[np.float32]
Predictor = Callable[[NDArray[np.uint8], LandmarkTruth], Floats]
"""From a photograph uint8 [H, W, 3] and its truth (for choosing among faces) to landmarks [68, 2]."""


def landmark_error(predicted: NDArray[np.floating], truth: LandmarkTruth) -> float:
    """Mean distance over the landmarks that are known, over ``sqrt(width * height)`` of the true landmarks' box.

    Raises:
        ArgumentError: the prediction is not [68, 2] or not finite.
    """
    points = np.asarray(predicted, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise ArgumentError(f"68 finite landmarks were expected, got an array of shape {list(points.shape)}")
    return float(np.nanmean(np.linalg.norm(points - truth.landmarks, axis=1)) / truth.size)


class DetectorPredictor:
    """Landmarks of a detector.

    Args:
        method: 'embedded' or 'face-alignment'.
        box: 'found': the detector finds the face; of several, the one that overlaps most with the true box counts.
            'truth': the embedded landmark network looks at the true box, so the face finder plays no part.
        jaw: '3d' for landmarks 0-16 that stay on the jaw (as in AFLW2000-3D), or 'contour' for the visible outline.

    Raises:
        ArgumentError: a value is none of these, or they do not go together.
    """

    def __init__(self, method: str = "embedded", *, box: str = "found", jaw: str = "3d") -> None:
        if method not in ("embedded", "face-alignment"):
            raise ArgumentError(f"the detector must be 'embedded' or 'face-alignment', not {method!r}")
        if box not in ("found", "truth") or jaw not in ("3d", "contour"):
            raise ArgumentError("the box must be 'found' or 'truth', and the jaw '3d' or 'contour'")
        if method == "face-alignment" and jaw == "3d":
            raise ArgumentError("face-alignment marks the visible outline: its jaw must be 'contour'")
        if box == "truth" and method != "embedded":
            raise ArgumentError("only the embedded detector can be given the true box")
        self.method, self.box, self.jaw = method, box, jaw

    def __call__(self, image: NDArray[np.uint8], truth: LandmarkTruth) -> Floats:
        return self.detect(image, truth).landmarks

    def detect(self, image: NDArray[np.uint8], truth: LandmarkTruth) -> Detection:
        """The face of a photograph.

        Raises:
            NoFaceError: none was found where it is.
        """
        if self.box == "truth":
            return self._at(image, truth.box)
        found = self._all(image)
        best = max(found, key=lambda face: intersection_over_union(face.box, truth.box), default=None)
        if best is None or intersection_over_union(best.box, truth.box) == 0:
            raise NoFaceError(f"{len(found)} faces were found, none of them where the face is")
        return best

    def _all(self, image: NDArray[np.uint8]) -> list[Detection]:
        if self.method == "embedded":
            from garfast.landmarks.embedded import detect_embedded

            return detect_embedded(image, jaw=self.jaw)
        from garfast.landmarks import detect

        try:
            return detect(image, method=self.method)
        except NoFaceError:
            return []

    @torch.no_grad()
    def _at(self, image: NDArray[np.uint8], box: Floats) -> Detection:
        from garfast.landmarks.embedded import JAWS, VIEWS, both_jaws, frames, load_networks, mark

        marker = load_networks().marker
        photo = torch.from_numpy(image).permute(2, 0, 1)
        x0, y0, x1, y1 = box.tolist()
        place = torch.tensor([[(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0), 0.0]])
        marks, _, _ = mark(marker, photo, place)
        marks, certainty, face = mark(marker, photo, frames(marks), VIEWS)
        jaws = both_jaws(marks[0].numpy(), certainty[0].numpy(), float(face[0]))
        return jaws[JAWS.index(self.jaw)]._replace(box=box)


class FitPredictor:
    """Landmarks of the fitted mesh: the model's own 68 points, which stay on the jaw, projected into the photograph.

    Args:
        detector: gives the landmarks that the fit starts from.
        fits: fits the model; see `garfast.evaluate.fitting.Fits`.
        row: which fit.
    """

    def __init__(self, detector: DetectorPredictor, fits: Any, row: Any) -> None:
        self.detector, self.fits, self.row = detector, fits, row

    def __call__(self, image: NDArray[np.uint8], truth: LandmarkTruth) -> Floats:
        state = self.fits.state(self.row, image, self.detector.detect(image, truth))
        model: MorphableModel = self.fits.model
        with torch.no_grad():
            points = model.landmarks(model.evaluate(state.shape, state.exp))
            pixels: Floats = state.camera.project(state.pose.apply(points))[0].float().cpu().numpy()
        return pixels


@dataclass(frozen=True)
class LandmarkResult:
    """One photograph.

    Attributes:
        image: its file.
        yaw: degrees, or None.
        nme: the error as a share of the face's size; None where it failed.
        failure: why, one sentence.
    """

    image: Path
    yaw: float | None
    nme: float | None
    failure: str | None = None


def evaluate_landmarks(
    truths: Sequence[LandmarkTruth], predictor: Predictor, *, progress: bool = False
) -> list[LandmarkResult]:
    """Predict the landmarks of photographs and measure them; a failure is noted and does not stop the others.

    Raises:
        EvaluationError: there are no photographs.
    """
    from tqdm import tqdm

    if not truths:
        raise EvaluationError("there is no photograph to evaluate")
    results = []
    for truth in tqdm(truths, unit="photo", disable=not progress):
        try:
            error = landmark_error(predictor(read_image(truth.image), truth), truth)
        except GarfastError as reason:
            results.append(LandmarkResult(truth.image, truth.yaw, None, str(reason)))
        else:
            results.append(LandmarkResult(truth.image, truth.yaw, error))
    return results


@dataclass(frozen=True)
class LandmarkSummary:
    """What results say; errors in percent of the face's size.

    Attributes:
        bins: for each yaw bin '0-30', '30-60', '60-90' that has results: the summary.
        balanced: mean of the bins' means, which papers call the mean on AFLW2000-3D; None where a bin is empty.
        balanced_std: standard deviation of the bins' means (population); None where a bin is empty.
        all: the summary of all photographs, each counting once; None where all failed.
        failures: photographs without a result, for each bin and as 'all'.
        photographs: photographs, for each bin and as 'all'.
    """

    bins: dict[str, Summary]
    balanced: float | None
    balanced_std: float | None
    all: Summary | None
    failures: dict[str, int]
    photographs: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def summarise_landmarks(results: Sequence[LandmarkResult]) -> LandmarkSummary:
    """Means by yaw; photographs without a result are counted and left out of the means."""
    names = [f"{low:.0f}-{high:.0f}" for low, high in BINS]
    groups: dict[str, list[LandmarkResult]] = {name: [] for name in names}
    for result in results:
        if result.yaw is not None:
            k = sum(abs(result.yaw) > high for _, high in BINS[:-1])
            groups[names[k]].append(result)
    bins = {name: summary for name, group in groups.items() if (summary := _summary(group)) is not None}
    means = [bins[name].mean for name in names] if len(bins) == len(names) else None
    groups["all"] = list(results)
    return LandmarkSummary(
        bins=bins,
        balanced=None if means is None else float(np.mean(means)),
        balanced_std=None if means is None else float(np.std(means)),
        all=_summary(results),
        failures={name: sum(r.nme is None for r in group) for name, group in groups.items()},
        photographs={name: len(group) for name, group in groups.items()},
    )


def write_landmark_report(results: Sequence[LandmarkResult], folder: Path, settings: dict[str, Any]) -> str:
    """Write ``nme.json``, ``nme.csv`` and ``nme.md``; returns the Markdown text.

    Raises:
        OutputError: a file cannot be written.
    """
    summary = summarise_landmarks(results)
    table = []
    for name, label in [*((n, f"yaw {n}°") for n in summary.photographs if n != "all"), ("all", "all, each once")]:
        s = summary.all if name == "all" else summary.bins.get(name)
        numbers = ["–"] * 4 if s is None else [f"{s.mean:.2f}", f"{s.median:.2f}", f"{s.std:.2f}"]
        interval = [] if s is None else [f"{s.low:.2f} to {s.high:.2f}"]
        table.append([label, *numbers, *interval, str(summary.photographs[name]), str(summary.failures[name])])
    header = ["NME, %", "mean", "median", "std", "95 % of the mean", "photographs", "failures"]
    lines = [markdown_table(header, table)]
    if summary.balanced is not None:
        lines.append(
            f"Balanced mean of the three bins: {summary.balanced:.2f} % (std {summary.balanced_std:.2f} between bins)."
        )
    if summary.failures["all"]:
        lines.append(
            f"{summary.failures['all']} of {summary.photographs['all']} photographs gave no landmarks; they are in no "
            "mean, which flatters it."
        )
    text = "\n".join(lines) + "\n"
    write_json(folder / "nme.json", {"settings": settings, "summary": summary.to_dict()})
    rows = [[r.image, r.yaw, "" if r.nme is None else f"{100 * r.nme:.4f}", r.failure or ""] for r in results]
    write_csv(folder / "nme.csv", ["image", "yaw", "nme_percent", "failure"], rows)
    write_text(folder / "nme.md", text)
    return text


def _summary(results: Sequence[LandmarkResult]) -> Summary | None:
    values = [100 * r.nme for r in results if r.nme is not None]
    return summarise(values) if values else None
