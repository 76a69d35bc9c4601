"""``report.html``: one page that opens without a network and lets a person turn the mesh."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files

import numpy as np

from garfast.io.atomic import atomic_path


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    glb: bytes,
    facts: Mapping[str, str],
    pictures: Mapping[str, np.ndarray],
    links: Iterable[str] = (),
) -> None:
    """Write a page with the mesh in a WebGL viewer of its own, a table and pictures, all inside the one file.

    Args:
        title: of the page, plain text.
        glb: a binary glTF with one mesh of one primitive with normals, texture coordinates and a texture.
        facts: rows of the table, plain text.
        pictures: uint8 [H,W,3] by caption.
        links: names of files in the page's folder to link to.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    images = "".join(
        f'<p><img alt="{html.escape(caption)}" src="{_data_uri(picture)}"></p>' for caption, picture in pictures.items()
    )
    anchors = " · ".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>' for name in links)
    values = {
        "TITLE": html.escape(title),
        "FACTS": rows,
        "LINKS": anchors and f"Files beside this page: {anchors}",
        "PICTURES": images,
        "GLB": base64.b64encode(glb).decode("ascii"),
    }
    template = (files("garfast.io") / "report_template.html").read_text(encoding="utf-8")
    # All marks in one pass: a title such as "@GLB@" stays a title.
    page = re.sub("@([A-Z]+)@", lambda mark: values[mark[1]], template)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _data_uri(picture: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
