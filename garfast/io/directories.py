"""Where garfast keeps what it downloads, imports and measures for a user."""

from __future__ import annotations

import os
from pathlib import Path


def data_directory() -> Path:
    """$GARFAST_HOME, else $XDG_DATA_HOME/garfast, else ~/.local/share/garfast; it may not exist yet."""
    home = os.environ.get("GARFAST_HOME")
    if home:
        return Path(home).expanduser()
    xdg = os.environ.get("XDG_DATA_HOME")
    base = Path(xdg).expanduser() if xdg else Path.home() / ".local" / "share"
    return base / "garfast"
