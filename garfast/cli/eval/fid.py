"""``garfast eval fid``: the Frechet distance between two sets of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garfast.cli.options import device_option, model_option

if TYPE_CHECKING:
    from torch import Tensor

    from garfast.evaluate.features import FeatureExtractor
    from garfast.evaluate.fid import Side


@click.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("pictures", type=click.Path(path_type=Path), required=False)
@click.option("--weights", type=click.Path(path_type=Path), help="Pictures drawn by the renderer in this folder.")
@click.option("--count", type=click.IntRange(min=2), help="At most so many of each set; 10000 drawn ones by default.")
@click.option(
    "--inception", type=click.Path(path_type=Path), help="InceptionV3 as TorchScript, for comparable numbers."
)
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    help="Folder of renderer weights whose networks compare the pictures. Default: those of --weights, or the shipped.",
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    help="Side of pictures from files.  [default: 256, or the renderer's with --weights]",
)
@click.option(
    "--truncation", type=float, default=1.0, show_default=True, help="Of the drawn pictures' styles; 1: none."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the drawn pictures.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Pictures at once.")
@click.option("--save", type=click.Path(path_type=Path), help="Keep the reference's statistics in this .npz file.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Also write the result to this JSON file.")
@model_option
@device_option
def command(
    reference: Path,
    pictures: Path | None,
    weights: Path | None,
    count: int | None,
    inception: Path | None,
    features: Path | None,
    size: int | None,
    truncation: float,
    seed: int,
    batch: int,
    save: Path | None,
    out: Path | None,
    model: str | None,
    device: str,
) -> None:
    """The Frechet distance between two sets of pictures (FID when compared by InceptionV3).

    REFERENCE and PICTURES are folders of pictures (of `garfast train portraits`, too) or .npz files of statistics.
    Instead of PICTURES, --weights draws them: random faces of a model with random looks.

    Also says the distance that infinitely many pictures would have, as that of few is too large.
    """
    from garfast.evaluate.drawing import drawn_pictures
    from garfast.evaluate.features import inception_features, own_features
    from garfast.evaluate.fid import gather, save_statistics, set_distance
    from garfast.evaluate.statistics import write_json
    from garfast.morphable import load_model
    from garfast.networks.renderer import load_renderer

    if (pictures is None) == (weights is None):
        raise click.UsageError("give a second set: either PICTURES or --weights FOLDER.")
    renderer = None if weights is None else load_renderer(weights, device=device)
    if inception is not None:
        extractor = inception_features(inception, device)
    elif features is None and renderer is not None:
        extractor = own_features(renderer)
    else:
        extractor = own_features(load_renderer(features, device=device))
    size = size or (256 if renderer is None else renderer.size)
    first = _statistics(reference, extractor, size, batch, count)
    if renderer is None:
        assert pictures is not None
        second, name = _statistics(pictures, extractor, size, batch, count), str(pictures)
    else:
        drawn = drawn_pictures(
            renderer.generator, load_model(model), count or 10_000, batch=batch, truncation=truncation, seed=seed
        )
        second, name = gather(_bar(drawn, "drawn"), extractor), f"pictures drawn by {weights}"
    if save is not None:
        save_statistics(first, save)
    result = set_distance(first, second, extractor)
    click.echo(f"{result.distance:.3f}  {name} ({result.second}) from {reference} ({result.first})")
    if result.extrapolated is not None:
        click.echo(f"{result.extrapolated:.3f}  with infinitely many pictures, extrapolated")
    click.echo(f"features: {result.features} ({result.note})")
    if out is not None:
        write_json(out, {"reference": reference, "pictures": name, **asdict(result)})


def _statistics(source: Path, extractor: FeatureExtractor, size: int, batch: int, count: int | None) -> Side:
    from garfast.evaluate.fid import folder_pictures, gather, same_features
    from garfast.networks.frechet import FeatureStatistics

    if source.suffix == ".npz":
        return same_features(FeatureStatistics.load(source), extractor)
    side = extractor.size or size
    return gather(_bar(folder_pictures(source, side, batch), source.name), extractor, limit=count)


def _bar(batches: Iterator[Tensor], name: str) -> Iterator[Tensor]:
    from tqdm import tqdm

    with tqdm(unit="picture", desc=name) as bar:
        for pictures in batches:
            yield pictures
            bar.update(len(pictures))
