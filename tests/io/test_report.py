"""The page holds everything itself and treats names as text."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np

from garfast.io.report import write_report


def test_self_contained(tmp_path: Path) -> None:
    glb = b"glTF" + bytes(range(256))
    write_report(
        tmp_path / "report.html",
        title="@GLB@ <script>alert(1)</script>.png",
        glb=glb,
        facts={"Model": "a & b <i>"},
        pictures={"sheet": np.zeros((8, 8, 3), np.uint8)},
        links=["mesh.glb"],
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "@GLB@ &lt;script&gt;" in page
    assert "a &amp; b &lt;i&gt;" in page
    assert 'href="mesh.glb"' in page
    assert base64.b64encode(glb).decode() in page
    assert "data:image/jpeg;base64," in page
    assert not re.search(r"https?://|(src|href)=\"//|@import|fetch\(|XMLHttpRequest", page)
    assert not re.search(r"@[A-Z]+@", page.replace("@GLB@ &lt;", ""))
    assert "default-src 'none'" in page
