"""The rows of a geometry evaluation: ways of fitting a face, from none at all to the whole fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from garfast.errors import ArgumentError, WeightsFileError
from garfast.fit.refine_config import RefineConfig, preset
from garfast.fit.refine_file import config_text

KINDS = ("mean", "landmarks", "inversion", "full")
"""How far a fit goes: the model's mean face, the landmark fit, and the fit's further stages."""

STARTS = ("inverter", "mean", "random")
"""Where a refinement's latent code and noise come from: the inverter, the mean style, or chance."""
VARIANT_OPTIONS = {"no-inverter": "mean", "random": "random"}
"""Starts by the options of a variant."""


@dataclass(frozen=True)
class Row:
    """One way of fitting.

    Attributes:
        name: in the table.
        kind: one of `KINDS`.
        weights: folder of the renderer's networks; the shipped ones where None.
        refinement: its settings where there is one.
        start: one of `STARTS`.
        digest: of the files with the renderer's networks, so that results of other networks are not taken for these.
    """

    name: str
    kind: str
    weights: str | None = None
    refinement: RefineConfig | None = None
    start: str = "inverter"
    digest: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ArgumentError(f"a row of the evaluation must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.start not in STARTS:
            raise ArgumentError(f"a row of the evaluation must start from {', '.join(STARTS)}, not {self.start!r}")
        if not re.fullmatch(r"[^|\n/\\]{1,60}", self.name):
            raise ArgumentError(f"the name of a row must be 1 to 60 characters without | / \\, got {self.name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; two rows with the same values give the same fits."""
        settings = None if self.refinement is None else config_text(self.refinement)
        return asdict(self) | {"refinement": settings}


def make_rows(
    stages: Iterable[str], variants: Sequence[str] = (), refinement: RefineConfig | None = None
) -> tuple[Row, ...]:
    """The rows that the command line asks for.

    Args:
        stages: names among `KINDS`, one row each, with the shipped renderer.
        variants: ``NAME=FOLDER[:OPTION]``, one row each: the full fit with the renderer in that folder (the shipped one
            where FOLDER is empty); the options are in `VARIANT_OPTIONS`.
        refinement: settings of full fits; those of the default preset where None.

    Raises:
        ArgumentError: a name, a variant or an option is not known, a name comes twice, or a start does not go with the
            settings.
        WeightsFileError: a folder holds no renderer.
    """
    refinement = refinement or preset("default")
    rows = [make_row(kind, refinement=refinement) for kind in stages]
    for text in variants:
        name, equals, rest = text.partition("=")
        if not equals or not name:
            raise ArgumentError(f"the variant {text!r} should be NAME=FOLDER or NAME=FOLDER:OPTION")
        folder, colon, option = rest.rpartition(":")
        if not colon:
            folder, option = rest, ""
        if option and option not in VARIANT_OPTIONS:
            raise ArgumentError(
                f"the variant {name!r} has the unknown option {option!r}: expected {', '.join(VARIANT_OPTIONS)}"
            )
        start = VARIANT_OPTIONS.get(option, "inverter")
        if start == "mean" and refinement.latent == "z":
            raise ArgumentError(
                f"the variant {name!r} would start from the mean style, which no code z has: with settings that "
                "descend on z, as the preset 'paper' does, use :random"
            )
        rows.append(replace(make_row("full", folder or None, refinement), name=name, start=start))
    names = [row.name for row in rows]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ArgumentError(f"two rows are named {double[0]!r}: give each its own name")
    if not rows:
        raise ArgumentError("there is nothing to evaluate: name at least one stage or variant")
    return tuple(rows)


def furthest_kind() -> str:
    """'full' where weights of a renderer come with this installation, else 'landmarks'."""
    from garfast.networks.renderer import SHIPPED

    return "full" if (SHIPPED / "generator.safetensors").is_file() else "landmarks"


def make_row(kind: str, weights: str | None = None, refinement: RefineConfig | None = None) -> Row:
    """One row of a kind, with the renderer in a folder (the shipped one where None) and settings of the full fit (those
    of the default preset where None).

    Raises:
        ArgumentError: the kind is not known.
        WeightsFileError: the folder holds no renderer.
    """
    from garfast.networks.renderer import SHIPPED

    if kind not in ("inversion", "full"):
        return Row(kind, kind, weights)
    settings = refinement or preset("default") if kind == "full" else None
    return Row(kind, kind, weights, settings, digest=_digest(SHIPPED if weights is None else Path(weights)))


def _digest(folder: Path) -> str:
    """SHA-256 over the weight files of a folder, hexadecimal."""
    if not (folder / "generator.safetensors").is_file():
        raise WeightsFileError(
            f"{folder} holds no renderer: a folder with generator.safetensors and its other networks was expected"
        )
    checksum = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        checksum.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return checksum.hexdigest()
