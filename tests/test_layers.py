"""Imports point down only, and the light parts import nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "garfast"

# Each layer may import from itself, from layers before it, and from the leaves.
LAYERS = [{"ops"}, {"morphable", "networks"}, {"landmarks", "synth"}, {"train", "fit"}, {"evaluate", "bench"}, {"cli"}]
LEAVES = {"errors", "io", "__init__"}


def _level(part: str) -> int:
    return next(level for level, layer in enumerate(LAYERS) if part in layer)


def _imports(path: Path) -> set[str]:
    """The second-level garfast modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "garfast" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                found.add(parts[1])
    return found


@pytest.mark.parametrize("part", sorted(set().union(*LAYERS)))
def test_imports_point_down(part):
    wrong = [
        f"{path.relative_to(PACKAGE)} imports garfast.{other}"
        for path in (PACKAGE / part).rglob("*.py")
        for other in _imports(path) - LEAVES
        if other != part and _level(other) >= _level(part)
    ]
    assert not wrong


def test_leaves_import_no_layer():
    wrong = [str(p) for p in (PACKAGE / "io").rglob("*.py") if _imports(p) - LEAVES]
    assert not wrong


def test_importing_the_operators_needs_only_torch_and_numpy():
    heavy = {"scipy", "skimage", "PIL", "trimesh", "face_alignment", "cv2", "matplotlib", "safetensors", "triton"}
    # What torch itself loads does not count.
    code = "import sys, torch; before = set(sys.modules); import garfast.ops; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_importing_garfast_loads_no_torch():
    code = "import sys, garfast; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
