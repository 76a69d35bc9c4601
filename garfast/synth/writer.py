"""Synthetic photographs on disk: tar shards that a DataLoader streams, or plain files; by several processes.

A sample is three files with one stem, its index in eight digits: ``.png`` (the photograph), ``.npz`` (the arrays of its
truth; normals as float16) and ``.json`` (camera, model, person, index). Shards are tar archives of such files in order
of index, the layout known from WebDataset. Bytes depend on the settings alone, not on the number of workers.
"""

from __future__ import annotations

import gc
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from garfast.errors import ArgumentError, OutputError
from garfast.io.atomic import atomic_path
from garfast.io.processes import worker_pool
from garfast.synth.config import SynthConfig
from garfast.synth.encode import encode_npz, encode_png

if TYPE_CHECKING:
    from garfast.synth.faces import SyntheticFaces

MANIFEST = "synth.json"
_IN_JSON = ("camera", "model", "person", "index")


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What to write. Everything here is in the folder's manifest, and a folder is continued only by the same plan.

    Attributes:
        count: how many photographs.
        models: ``(name or path, weight)`` of the face models.
        size: image side, pixels.
        seed: 0 or more.
        shard_size: photographs in one shard.
        plain: separate files instead of shards.
        config: what varies.
    """

    count: int
    models: tuple[tuple[str, float], ...]
    size: int = 128
    seed: int = 0
    shard_size: int = 100
    plain: bool = False
    config: SynthConfig = field(default_factory=SynthConfig)

    def __post_init__(self) -> None:
        if self.count < 1 or self.shard_size < 1:
            raise ArgumentError(f"at least one photograph per shard is needed, got {self.count} of {self.shard_size}")

    def ranges(self) -> list[tuple[int, int]]:
        """First and last-plus-one index of each shard."""
        return [(start, min(start + self.shard_size, self.count)) for start in range(0, self.count, self.shard_size)]


def parse_models(names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """``NAME`` or ``NAME:WEIGHT`` to names and weights; nothing means the default model.

    Raises:
        ArgumentError: a weight is not a positive number.
    """
    from garfast.morphable import default_model_name

    pairs = []
    for text in names or (default_model_name(),):
        name, colon, weight = text.rpartition(":")
        if not colon or not name:
            pairs.append((text, 1.0))
            continue
        try:
            share = float(weight)
        except ValueError as error:
            raise ArgumentError(f"the model '{text}' should be NAME or NAME:WEIGHT, as in ict:0.7") from error
        if not share > 0:
            raise ArgumentError(f"the weight of model '{name}' must be positive, got {weight}")
        pairs.append((name, share))
    return tuple(pairs)


def write_dataset(plan: DatasetPlan, folder: str | os.PathLike[str], workers: int = 1, progress: bool = False) -> int:
    """Write a data set, or what is missing of it.

    Args:
        folder: where it goes; made when missing. Finished shards (or files) of the same plan are kept.
        workers: processes, each with one thread; 1 works in this process.
        progress: show a bar.

    Returns:
        How many photographs were written now.

    Raises:
        ArgumentError: no workers.
        OutputError: the folder holds a data set of another plan, or cannot be written.
        ModelFileError: a model is not there.
    """
    if workers < 1:
        raise ArgumentError(f"at least one worker is needed, got {workers}")
    from garfast.morphable import load_model

    target = Path(folder)
    for name, _ in plan.models:  # before the folder is bound to a model that is not there
        load_model(name)
    _claim(plan, target)
    todo = [span for span in plan.ranges() if not _finished(plan, target, span)]
    total = sum(stop - start for start, stop in todo)
    if not todo:
        return 0
    from tqdm import tqdm

    with tqdm(total=total, unit="face", disable=not progress) as bar:
        workers = min(workers, len(todo))
        if workers == 1:
            _load(plan)
            for span in todo:
                bar.update(_write_span(plan, str(target), span))
        else:
            for written in _in_parallel(plan, target, todo, workers):
                bar.update(written)
    return total


def _in_parallel(plan: DatasetPlan, target: Path, todo: Sequence[tuple[int, int]], workers: int) -> Iterator[int]:
    with worker_pool(workers, _load, (plan,)) as pool:
        pending: set[Future[int]] = {pool.submit(_write_span, plan, str(target), span) for span in todo}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _manifest(plan: DatasetPlan) -> str:
    values = asdict(plan)
    return json.dumps({"format": "garfast synthetic faces", "version": 1, **values}, indent=1) + "\n"


def _claim(plan: DatasetPlan, target: Path) -> None:
    """Write the manifest, or check that the one there is the same."""
    path, text = target / MANIFEST, _manifest(plan)
    if path.is_file():
        if path.read_text() != text:
            raise OutputError(
                f"{target} holds synthetic faces made with other settings (see {MANIFEST}): choose another folder"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _shard(target: Path, span: tuple[int, int], plan: DatasetPlan) -> Path:
    return target / f"faces-{span[0] // plan.shard_size:06d}.tar"


def _finished(plan: DatasetPlan, target: Path, span: tuple[int, int]) -> bool:
    if plan.plain:  # the .json of a sample comes last
        return all((target / f"{index:08d}.json").is_file() for index in range(*span))
    return _shard(target, span, plan).is_file()


_faces: Any = None  # this process's generator


def load_faces(plan: DatasetPlan) -> SyntheticFaces:
    """The generator of a plan's photographs.

    Raises:
        ModelFileError: a model is not there.
    """
    from garfast.morphable import load_model
    from garfast.synth.faces import SyntheticFaces

    models = [(load_model(name), weight) for name, weight in plan.models]
    return SyntheticFaces(models, plan.size, plan.seed, plan.config)


def _load(plan: DatasetPlan) -> None:
    global _faces
    _faces = load_faces(plan)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Photographs leave no cycles of references behind, and looking for some takes 2 % of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collections()
def _write_span(plan: DatasetPlan, folder: str, span: tuple[int, int]) -> int:
    target = Path(folder)
    if plan.plain:
        missing = (index for index in range(*span) if not (target / f"{index:08d}.json").is_file())
        for sample in _faces.samples(missing):
            for name, data in sample_files(sample):
                with atomic_path(target / name) as temporary:
                    temporary.write_bytes(data)
        return span[1] - span[0]
    with (
        atomic_path(_shard(target, span, plan)) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for sample in _faces.samples(range(*span)):
            for name, data in sample_files(sample):
                info = tarfile.TarInfo(name)  # its time, owner and mode are fixed
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return span[1] - span[0]


def sample_files(sample: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Name and contents of a sample's files, the .json last."""
    stem = f"{sample['index']:08d}"
    truth = {key: value for key, value in sample.items() if key != "image" and isinstance(value, np.ndarray)}
    if "normal_map" in truth:
        # In a tenth of numpy's time.
        truth["normal_map"] = torch.from_numpy(truth["normal_map"]).half().numpy()
    rest = json.dumps({key: sample[key] for key in _IN_JSON})
    return [
        (f"{stem}.png", encode_png(sample["image"])),
        (f"{stem}.npz", encode_npz(truth)),
        (f"{stem}.json", rest.encode()),
    ]


def read_shard(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The samples of a shard, as :meth:`SyntheticFaces.sample` gives them (normals rounded to float16).

    Raises:
        OutputError: the file is missing or no shard.
    """
    from PIL import Image

    try:
        with tarfile.open(path) as tar:
            parts: dict[str, bytes] = {}
            for member in tar:
                stream = tar.extractfile(member)
                if stream is None:
                    continue
                parts[Path(member.name).suffix] = stream.read()
                if len(parts) == 3:
                    image = np.asarray(Image.open(io.BytesIO(parts[".png"])))
                    with np.load(io.BytesIO(parts[".npz"]), allow_pickle=False) as arrays:
                        truth = {key: arrays[key] for key in arrays.files}
                    yield {"image": image, **truth, **json.loads(parts[".json"])}
                    parts = {}
    except (OSError, tarfile.TarError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise OutputError(f"{path} is no readable shard of synthetic faces: {error}") from error
