"""Fits of synthetic faces against their true geometry: what `garfast eval geometry` does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.errors import ArgumentError, EvaluationError, GarfastError, LandmarkError
from garfast.evaluate.face_error import RADIUS, FaceError, FaceRegion, TrueFace
from garfast.evaluate.fitting import Fits
from garfast.evaluate.rows import Row
from garfast.evaluate.statistics import write_json
from garfast.io.processes import worker_pool
from garfast.landmarks import Detection
from garfast.landmarks.boxes import bounding_box, face_size
from garfast.morphable import MorphableModel, load_model

SETTINGS = "settings.json"
LANDMARKS = ("embedded", "face-alignment", "truth")
PICTURES = ("portraits", "any")


@dataclass(frozen=True, kw_only=True)
class GeometryPlan:
    """What is evaluated. Results of one plan are kept in one folder and added to.

    Attributes:
        model: name or path of the face model that makes the faces and fits them.
        count: how many faces, each another person.
        seed: of the synthetic photographs; the trainings use other seeds, so these people are in no training set.
        size: side of the photographs, pixels.
        pictures: 'portraits' as the shipped renderer's networks learnt from (other people), or 'any': all that
            `garfast synth` draws, steep angles, hands and hats included.
        landmarks: 'embedded' or 'face-alignment': found in the photograph by that detector; 'truth': the true ones.
        projection: of the fit.
        radius: mm around the tip of the nose that are compared.
    """

    model: str
    count: int = 50
    seed: int = 7_000_003
    size: int = 256
    pictures: str = "portraits"
    landmarks: str = "embedded"
    projection: str = "orthographic"
    radius: float = RADIUS

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ArgumentError(f"at least one face is needed, got {self.count}")
        for name, value, choices in (
            ("pictures", self.pictures, PICTURES),
            ("landmarks", self.landmarks, LANDMARKS),
            ("projection", self.projection, ("orthographic", "pinhole")),
        ):
            if value not in choices:
                raise ArgumentError(f"{name} must be one of {', '.join(choices)}, not {value!r}")

    def settings(self) -> dict[str, Any]:
        """What results depend on; the number of faces is not among it."""
        values = asdict(self)
        del values["count"]
        return values


@dataclass(frozen=True, eq=False)
class TrueSample:
    """A photograph and what is true of it.

    Attributes:
        image: uint8 [H, W, 3].
        landmarks: [68, 2] photo pixels, the jaw on the visible outline.
        shape: [S] and exp: [E], standard deviations.
        angles: yaw, pitch and roll, degrees.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    shape: NDArray[np.float32]
    exp: NDArray[np.float32]
    angles: tuple[float, float, float]


def synthetic_samples(plan: GeometryPlan, model: MorphableModel) -> Callable[[int], TrueSample]:
    """A function from the number of a face to its photograph."""
    from garfast.synth import SynthConfig, SyntheticFaces
    from garfast.train.portraits import SYNTH

    base = SYNTH if plan.pictures == "portraits" else SynthConfig()
    config = replace(base, photos_per_person=1, normals=False)
    faces = SyntheticFaces(model, plan.size, plan.seed, config)

    def sample(index: int) -> TrueSample:
        made = faces.sample(index)
        angles = tuple(float(np.degrees(a)) for a in made["angles"])
        return TrueSample(
            made["image"],
            made["landmarks68_contour"],
            made["shape"],
            made["exp"],
            angles,  # type: ignore[arg-type]
        )

    return sample


class GeometryEvaluator:
    """Makes faces, fits them and measures the fits; one for each process.

    Args:
        plan: what to do.
        rows: ways of fitting.
        device: where to fit.
        model: the plan's model, where it is at hand already.
        samples: photographs; those of the plan where None.

    Raises:
        ModelFileError, WeightsFileError: the model or the networks cannot be loaded.
    """

    def __init__(
        self,
        plan: GeometryPlan,
        rows: Sequence[Row],
        *,
        device: str = "cpu",
        model: MorphableModel | None = None,
        samples: Callable[[int], TrueSample] | None = None,
    ) -> None:
        self.plan, self.rows = plan, tuple(rows)
        self.model = load_model(plan.model) if model is None else model
        self.region = FaceRegion.of(self.model, plan.radius)
        self.samples = synthetic_samples(plan, self.model) if samples is None else samples
        self.fits = Fits(self.model, projection=plan.projection, device=device)
        self.fits.prepare(self.rows)

    def face(self, index: int, rows: Sequence[Row] | None = None) -> dict[str, Any]:
        """Fit and measure one face.

        Returns:
            JSON values: ``index``, ``angles`` (degrees), ``failure`` (a sentence, or None), ``landmark_nme`` (of the
            detected landmarks) and ``rows``: for each row's name its definition (``row``), ``face`` and ``identity``
            (errors of the face as it is, and of both faces with a neutral expression; see `FaceError`) and ``seconds``.
        """
        sample = self.samples(index)
        report: dict[str, Any] = {"index": index, "angles": list(sample.angles), "failure": None, "rows": {}}
        try:
            detection = self._detection(sample)
        except LandmarkError as error:
            return report | {"failure": str(error)}
        distances = np.linalg.norm(detection.landmarks - sample.landmarks, axis=1)
        report["landmark_nme"] = float(np.nanmean(distances) / face_size(sample.landmarks))
        truth = TrueFace(self._vertices(sample.shape, sample.exp), self.region)
        neutral = TrueFace(self._vertices(sample.shape, None), self.region)
        for row in self.rows if rows is None else rows:
            try:
                shape, exp, seconds, notes = self.fits.coefficients(row, sample.image, detection)
            except GarfastError as error:
                report["rows"][row.name] = {"row": row.to_dict(), "failure": str(error)}
                continue
            report["rows"][row.name] = {
                "row": row.to_dict(),
                "face": truth.error(self._vertices(shape, exp)).to_dict(),
                "identity": neutral.error(self._vertices(shape, None)).to_dict(),
                "seconds": seconds,
                "notes": notes,
            }
        return report

    def _vertices(self, shape: NDArray[np.floating], exp: NDArray[np.floating] | None) -> NDArray[np.float32]:
        model = self.model
        identity = torch.from_numpy(np.asarray(shape[: model.num_shape], np.float32))
        expression = None if exp is None else torch.from_numpy(np.asarray(exp[: model.num_exp], np.float32))
        return model.evaluate(identity, expression)[0].numpy()

    def _detection(self, sample: TrueSample) -> Detection:
        if self.plan.landmarks == "truth":
            points = sample.landmarks
            return Detection(points, np.ones(68, np.float32), 1.0, bounding_box(points), "truth")
        from garfast.landmarks import detect

        return detect(sample.image, method=self.plan.landmarks)[0]


def evaluate_geometry(
    plan: GeometryPlan,
    rows: Sequence[Row],
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    device: str = "cpu",
    progress: bool = False,
    evaluator: GeometryEvaluator | None = None,
) -> list[dict[str, Any]]:
    """Fit and measure the faces of a plan; what a folder holds already is not done again.

    Args:
        plan: what to do.
        rows: ways of fitting.
        folder: holds ``faces/NNNNNN.json``, one for each face; made where it is missing.
        workers: processes, each with one thread; 1 works in this process.
        device: where to fit.
        progress: show a bar.
        evaluator: what to use in this process instead of one made from the plan.

    Returns:
        The reports of `GeometryEvaluator.face`, in order.

    Raises:
        OutputError: the folder cannot be written.
        EvaluationError: the folder holds results of another plan.
        ArgumentError: no workers.
        GarfastError: what making the evaluator raises.
    """
    from tqdm import tqdm

    if workers < 1:
        raise ArgumentError(f"at least one worker is needed, got {workers}")
    target = Path(folder)
    _claim(plan, target)
    reports = {index: _read(_path(target, index)) for index in range(plan.count)}
    todo = [(index, missing) for index in range(plan.count) if (missing := _missing(reports[index], rows))]
    if todo:
        bar = tqdm(total=len(todo), unit="face", disable=not progress)
        made = (
            _in_this_process(plan, rows, device, evaluator, todo)
            if workers == 1 or evaluator is not None
            else _in_parallel(plan, rows, device, todo, min(workers, len(todo)))
        )
        with bar:
            for report in made:
                index = int(report["index"])
                earlier = reports[index] or {"rows": {}}
                reports[index] = report | {"rows": earlier["rows"] | report["rows"]}
                write_json(_path(target, index), reports[index] or {})
                bar.update()
    return [done for index in range(plan.count) if (done := reports[index]) is not None]


def row_errors(reports: Sequence[dict[str, Any]], rows: Sequence[Row]) -> tuple[list[int], dict[str, list[FaceError]]]:
    """Errors of the faces that every row has a fit of.

    Returns:
        The numbers of these faces, and for each row's name its errors in the same order.
    """
    good = [r for r in reports if r["failure"] is None and all("face" in r["rows"][row.name] for row in rows)]
    errors = {row.name: [FaceError(**r["rows"][row.name]["face"]) for r in good] for row in rows}
    return [int(r["index"]) for r in good], errors


def _missing(report: dict[str, Any] | None, rows: Sequence[Row]) -> list[Row]:
    """The rows that a face still needs; fits that failed are tried again, faces that were not found are not."""
    if report is None:
        return list(rows)
    if report["failure"] is not None:
        return []
    done = {name: entry.get("row") for name, entry in report["rows"].items() if "face" in entry}
    return [row for row in rows if done.get(row.name) != row.to_dict()]


def _path(target: Path, index: int) -> Path:
    return target / "faces" / f"{index:06d}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and {"index", "failure", "rows"} <= set(report) else None


def _claim(plan: GeometryPlan, target: Path) -> None:
    path, settings = target / SETTINGS, plan.settings()
    earlier: Any = None
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            earlier = {}
    if earlier is None:
        write_json(path, settings)
    elif earlier != settings:
        differs = [
            name for name, value in settings.items() if not isinstance(earlier, dict) or earlier.get(name) != value
        ]
        raise EvaluationError(
            f"{target} holds an evaluation with other settings ({', '.join(differs)}): choose another folder"
        )


_Todo = Sequence[tuple[int, list[Row]]]


def _in_this_process(
    plan: GeometryPlan, rows: Sequence[Row], device: str, evaluator: GeometryEvaluator | None, todo: _Todo
) -> Iterator[dict[str, Any]]:
    worker = evaluator or GeometryEvaluator(plan, rows, device=device)
    for index, missing in todo:
        yield worker.face(index, missing)


_worker: GeometryEvaluator | None = None  # this process's own


def _start(plan: GeometryPlan, rows: Sequence[Row], device: str) -> None:
    global _worker
    _worker = GeometryEvaluator(plan, rows, device=device)


def _work(index: int, rows: Sequence[Row]) -> dict[str, Any]:
    assert _worker is not None
    return _worker.face(index, rows)


def _in_parallel(
    plan: GeometryPlan, rows: Sequence[Row], device: str, todo: _Todo, workers: int
) -> Iterator[dict[str, Any]]:
    # What is wrong with model or weights is said here, in one sentence, and not by a broken pool.
    Fits(load_model(plan.model), projection=plan.projection).prepare(rows)
    with worker_pool(workers, _start, (plan, rows, device)) as pool:
        pending: set[Future[dict[str, Any]]] = {pool.submit(_work, index, missing) for index, missing in todo}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
