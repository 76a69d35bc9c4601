"""What the output of a photograph's faces is called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_FURTHER = re.compile(r"(.+)-face\d+")


def face_name(name: str, face: int) -> str:
    """The name of face number ``face`` of a photograph whose largest face has ``name``."""
    return name if face == 1 else f"{name}-face{face}"


def taken_names(names: Iterable[str]) -> set[str]:
    """Those of some photographs' names that several have, or that a further face of another one would get."""
    counts = Counter(names)
    return {
        name
        for name, count in counts.items()
        if count > 1 or ((match := _FURTHER.fullmatch(name)) is not None and match[1] in counts)
    }
