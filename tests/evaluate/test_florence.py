from __future__ import annotations

import json

import numpy as np
import pytest

from garfast.errors import ArgumentError, EvaluationError, NoFaceError
from garfast.evaluate.florence import (
    evaluate_florence,
    find_scan,
    find_subjects,
    from_shape,
    predict,
    spread,
    write_florence_report,
)
from garfast.evaluate.rigid import Similarity, rotation_from_axis
from garfast.evaluate.scans import (
    Mesh,
    ScanConfig,
    average_meshes,
    nose_tip,
    read_mesh,
    read_point,
    scan_error,
)

TURN = Similarity(rotation_from_axis(np.array([0.15, -0.12, 0.05])), np.array([30.0, -200, 700]), np.ones(()))


@pytest.fixture(scope="module")
def head(tiny_model) -> Mesh:
    return Mesh(tiny_model.mean.numpy().astype(float), tiny_model.triangles.numpy().astype(np.int64))


def _finer(mesh: Mesh) -> Mesh:
    """The same surface with four times the triangles: another topology."""
    corners = mesh.vertices[mesh.triangles]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    soup = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return Mesh(soup.reshape(-1, 3), np.arange(3 * len(soup)).reshape(-1, 3))


def _write_obj(path, mesh: Mesh) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in mesh.triangles + 1]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("direction", ["scan", "mesh"])
def test_the_same_surface_turned_and_cut_otherwise_has_no_error(head, direction):
    scan = _finer(head)
    moved = Mesh(TURN.apply(head.vertices), head.triangles)
    error = scan_error(
        moved,
        scan,
        face_nose=nose_tip(head.vertices) @ TURN.rotation.T + TURN.translation,
        scan_nose=nose_tip(scan.vertices),
        config=ScanConfig(radius=60, direction=direction),
    )
    assert error.surface < 1e-3
    assert error.scale == 1


def test_a_raised_cheek_is_measured_in_millimetres(head):
    """A bump of known volume over known area: its mean height is the error."""
    scan = _finer(head)
    x, y = scan.vertices[:, 0], scan.vertices[:, 1]
    bump = np.exp(-(((x - 30) / 9) ** 2) - ((y + 10) / 9) ** 2)
    scan.vertices[:, 2] += 4 * bump
    nose = nose_tip(head.vertices)
    error = scan_error(head, scan, face_nose=nose, scan_nose=nose, config=ScanConfig(radius=60))
    assert 0.1 < error.plane < 0.4
    assert error.plane <= error.surface
    assert error.rms > error.plane


def test_a_change_of_size_is_found_and_the_error_is_in_the_scans_millimetres(head):
    scan = Mesh(1.08 * head.vertices, head.triangles)
    nose = nose_tip(head.vertices)
    rigid = scan_error(head, scan, face_nose=nose, scan_nose=1.08 * nose, config=ScanConfig(radius=60))
    free = scan_error(head, scan, face_nose=nose, scan_nose=1.08 * nose, config=ScanConfig(radius=60, scale=True))
    assert rigid.plane > 0.15
    assert free.plane < 0.02
    assert free.scale == pytest.approx(1.08, rel=5e-3)


def test_the_mean_of_meshes_that_were_moved(head):
    rng = np.random.default_rng(0)
    bent = [Mesh(head.vertices + rng.normal(0, 1, head.vertices.shape), head.triangles) for _ in range(2)]
    moved = Mesh(TURN.apply(bent[1].vertices), head.triangles)
    mean = average_meshes([bent[0], moved])
    np.testing.assert_allclose(mean.vertices, (bent[0].vertices + bent[1].vertices) / 2, atol=0.3)
    with pytest.raises(EvaluationError, match="one topology"):
        average_meshes([head, Mesh(head.vertices[:10], head.triangles[:1])])
    with pytest.raises(EvaluationError, match="no mesh"):
        average_meshes([])


def test_noses(head, tiny_model, tmp_path):
    assert np.linalg.norm(nose_tip(head.vertices) - tiny_model.landmarks(tiny_model.mean[None])[0, 30].numpy()) < 12
    (tmp_path / "nose.txt").write_text("1, 2.5 -3\n")
    np.testing.assert_array_equal(read_point(tmp_path / "nose.txt"), [1, 2.5, -3])
    (tmp_path / "nose.txt").write_text("1 2")
    with pytest.raises(EvaluationError, match="three numbers"):
        read_point(tmp_path / "nose.txt")


def test_meshes_from_files(head, tmp_path):
    import trimesh

    _write_obj(tmp_path / "a.obj", head)
    np.savez(tmp_path / "a.npz", vertices=head.vertices, triangles=head.triangles)
    trimesh.Trimesh(head.vertices, head.triangles, process=False).export(tmp_path / "a.ply")
    trimesh.Trimesh(head.vertices / 1000, head.triangles, process=False).export(tmp_path / "a.glb")
    for name in ("a.obj", "a.npz", "a.ply", "a.glb"):
        mesh = read_mesh(tmp_path / name)
        np.testing.assert_allclose(mesh.vertices, head.vertices, atol=1e-3)
        np.testing.assert_array_equal(mesh.triangles, head.triangles)
    for name, content in (("b.obj", "no mesh"), ("b.npz", "torn"), ("b.ply", ""), ("b.txt", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(EvaluationError):
            read_mesh(tmp_path / name)


def test_a_whole_folder(head, tiny_model, tmp_path):
    """Two subjects in two conditions: exact predictions, and ones whose frames err in opposite directions."""
    for subject in ("subject_01", "subject_02"):
        _write_obj(tmp_path / "scans" / subject / "model" / "scan.obj", _finer(head))
        for condition in ("Indoor", "Cooperative"):
            folder = tmp_path / "predictions" / condition / subject
            for frame in range(3):
                shift = np.zeros_like(head.vertices)
                if condition == "Indoor":
                    shift[:, 2] = (frame - 1) * 3 * np.cos(head.vertices[:, 0] / 20)
                _write_obj(folder / f"frame{frame}.obj", Mesh(head.vertices + shift, head.triangles))
    (tmp_path / "predictions" / "Indoor" / "subject_03").mkdir()
    subjects = find_subjects(tmp_path / "predictions")
    assert [condition for condition, _ in subjects] == ["Cooperative"] * 2 + ["Indoor"] * 3
    config = ScanConfig(radius=60)
    results = evaluate_florence(subjects, tmp_path / "scans", config=config)
    errors = [r.error.plane for r in results if r.error is not None]
    assert errors == pytest.approx([0, 0, 0, 0], abs=0.05)
    assert results[-1].failure is not None
    assert "no scan of 'subject_03'" in results[-1].failure
    one = evaluate_florence(subjects[2:3], tmp_path / "scans", frames=1, config=config)
    assert one[0].error is not None
    assert one[0].error.plane > 0.2
    text = write_florence_report(results, tmp_path / "out", {"radius": 60})
    assert text.index("Cooperative") < text.index("Indoor")
    assert "1 failed" in text
    data = json.loads((tmp_path / "out" / "florence.json").read_text())
    assert data["summary"]["Indoor"]["failures"] == 1
    assert data["summary"]["Cooperative"]["plane"]["count"] == 2
    assert (tmp_path / "out" / "florence.csv").read_text().count("\n") == 6


def test_photographs_are_fitted_and_their_identity_is_averaged(tiny_model, tmp_path):
    for k in range(7):
        (tmp_path / f"{k}.jpg").write_bytes(b"")
    shapes = {f"{k}.jpg": np.full(tiny_model.num_shape, k / 10) for k in range(7)}
    seen = []

    def fit(path):
        seen.append(path.name)
        if path.name == "0.jpg":
            raise NoFaceError("no face was found in the photo")
        return shapes[path.name]

    prediction = predict(tmp_path, frames=3, model=tiny_model, fit=fit)
    assert seen == ["0.jpg", "3.jpg", "6.jpg"]
    assert prediction.frames == 2
    expected = from_shape(tiny_model, np.full(tiny_model.num_shape, 0.45), 2)
    np.testing.assert_allclose(prediction.mesh.vertices, expected.mesh.vertices, atol=1e-4)
    np.testing.assert_allclose(prediction.nose, expected.nose, atol=1e-4)

    def fail(path):
        raise NoFaceError("no face was found in the photo")

    with pytest.raises(EvaluationError, match=r"no frame .* could be fitted; 0\.jpg: no face"):
        predict(tmp_path, model=tiny_model, fit=fail)
    with pytest.raises(EvaluationError, match="nothing was given"):
        predict(tmp_path)


def test_frames_are_spread():
    assert spread(range(100), 5) == [0, 25, 50, 74, 99]
    assert spread([1, 2], 5) == [1, 2]


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(EvaluationError, match="is not a folder"):
        find_subjects(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="no CONDITION/SUBJECT/"):
        find_subjects(tmp_path)
    with pytest.raises(EvaluationError, match="no frames"):
        predict(tmp_path)
    with pytest.raises(EvaluationError, match="no scan of 'x'"):
        find_scan(tmp_path, "x")
    with pytest.raises(ArgumentError, match="direction"):
        ScanConfig(direction="both")
