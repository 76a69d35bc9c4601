"""Folders like the kit's, for the tests of importer and download."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_obj(path: Path, vertices: np.ndarray, uv: np.ndarray, faces: list[list[int]]) -> None:
    lines = ["mtllib ICTFaceModelMaterial.mtl"]
    lines += [f"v {x:.15f} {y:.15f} {z:.15f}" for x, y, z in vertices]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uv]
    lines += ["usemtl M_Face"]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in faces]
    path.write_text("\n".join(lines) + "\n")


def few_modes(path: Path) -> dict[str, np.ndarray]:
    """The whole model's arrays with two identity and three expression modes."""
    with np.load(path) as archive:
        data = dict(archive)
    names = list(data["expression_names"])
    chosen = [names.index("jawOpen"), names.index("mouthClose"), names.index("eyeBlink_L")]
    data["identity"], data["expression"] = data["identity"][:2], data["expression"][chosen]
    data["expression_names"] = data["expression_names"][chosen]
    return data


def write_kit(root: Path, data: dict[str, np.ndarray]) -> Path:
    """Write ``few_modes`` as the kit's repository has it, LICENSE included; returns the ``FaceXModel`` folder."""
    folder = root / "FaceXModel"
    folder.mkdir(parents=True)
    (root / "LICENSE").write_text("MIT License\n")
    neutral = data["vertices"].astype(np.float64)
    with (folder / "generic_neutral_mesh.obj").open("w") as stream:
        np.savetxt(stream, neutral, "v %.6f %.6f %.6f")
        np.savetxt(stream, data["uv"], "vt %.6f %.6f")
        corners = np.stack([data["triangles"], data["uv_triangles"]], -1).reshape(-1, 6) + 1
        np.savetxt(stream, corners, "f %d/%d %d/%d %d/%d")
    modes = {f"identity{k:03d}": mode for k, mode in enumerate(data["identity"])}
    modes |= dict(zip(data["expression_names"], data["expression"], strict=True))
    for name, mode in modes.items():
        np.savetxt(folder / f"{name}.obj", neutral + mode, "v %.6f %.6f %.6f")
    landmarks = data["landmarks68"].tolist()
    indices = {"expressions": data["expression_names"].tolist(), "idx_to_landmark_verts": landmarks}
    (folder / "vertex_indices.json").write_text(json.dumps(indices))
    return folder
