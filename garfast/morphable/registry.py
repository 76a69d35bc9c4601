"""Where face models live, by name. The built-in face is always there; others are files in the user's data folder.

The folder is ``$GARFAST_HOME``, else ``$XDG_DATA_HOME/garfast``, else ``~/.local/share/garfast``; models are
``models/NAME.npz`` in it. The default model is ``$GARFAST_MODEL``, else what :func:`set_default_model` stored in
``settings.json`` there, else 'builtin'.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from garfast.errors import ModelFileError
from garfast.io.atomic import atomic_path
from garfast.io.directories import data_directory
from garfast.morphable.model import MorphableModel

BUILTIN = "builtin"


class ModelEntry(NamedTuple):
    """A model that :func:`load_model` can load by name."""

    name: str
    path: Path | None  # None for the built-in face


def model_directory() -> Path:
    """The folder of imported models; it may not exist yet."""
    return data_directory() / "models"


def model_path(name: str) -> Path:
    """The file of an imported model.

    Raises:
        ModelFileError: the name is not made of letters, digits, '.', '_' and '-', or is 'builtin'.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == BUILTIN:
        raise ModelFileError(
            f"'{name}' cannot name a model file: use letters, digits, '.', '_' and '-', and another name than 'builtin'"
        )
    return model_directory() / f"{name}.npz"


def list_models() -> list[ModelEntry]:
    """The built-in face, then every imported model in alphabetical order; the files are not opened."""
    files = sorted(model_directory().glob("*.npz"))
    return [
        ModelEntry(BUILTIN, None),
        *(ModelEntry(f.stem, f) for f in files if f.stem != BUILTIN and not f.name.startswith(".")),
    ]


def load_model(name_or_path: str | os.PathLike[str] | None = None) -> MorphableModel:
    """Load a face model.

    Args:
        name_or_path: 'builtin', the name of an imported model, a path to a model ``.npz``, or None for the default.

    Raises:
        ModelFileError: there is no such model, or its file is not a usable one.
    """
    name = default_model_name() if name_or_path is None else os.fspath(name_or_path)
    if name == BUILTIN:
        return _load_builtin()
    if name.endswith(".npz") or os.sep in name:
        return MorphableModel.load(name)
    known = {entry.name: entry.path for entry in list_models()}
    path = known.get(name)
    if path is not None:
        return MorphableModel.load(path)
    hint = "; import it with `garfast model import ict PATH` or `garfast model download ict`" if name == "ict" else ""
    raise ModelFileError(f"there is no model named '{name}' in {model_directory()} (known: {', '.join(known)}){hint}")


def default_model_name() -> str:
    """The name or path of the model that is used where none is given.

    Raises:
        ModelFileError: the settings file is not readable as JSON.
    """
    override = os.environ.get("GARFAST_MODEL")
    if override:
        return override
    return str(_settings().get("model", BUILTIN))


def set_default_model(name: str) -> None:
    """Store the default model in the user's settings.

    Args:
        name: 'builtin', the name of an imported model, or a path to a model ``.npz``, which is stored as absolute.

    Raises:
        ModelFileError: there is no such model, or the settings file is not readable as JSON.
        OutputError: the settings cannot be written.
    """
    if name != BUILTIN:
        load_model(name)
        if name.endswith(".npz") or os.sep in name:
            name = str(Path(name).resolve())
    settings = _settings() | {"model": name}
    with atomic_path(settings_path()) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def settings_path() -> Path:
    """Where the user's settings are, or would be."""
    return data_directory() / "settings.json"


def _settings() -> dict[str, object]:
    path = settings_path()
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"the settings file {path} cannot be read as JSON: repair or delete it") from error
    if not isinstance(settings, dict):
        raise ModelFileError(f"the settings file {path} must hold one JSON object: repair or delete it")
    return settings


def _load_builtin() -> MorphableModel:
    try:
        from garfast.morphable.builtin import load_builtin
    except ModuleNotFoundError as error:
        if error.name != "garfast.morphable.builtin":
            raise
        raise ModelFileError(
            "this installation has no built-in face (garfast.morphable.builtin is missing): install garfast again"
        ) from error
    return load_builtin()
