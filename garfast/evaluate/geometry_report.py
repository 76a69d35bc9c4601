"""Tables of a geometry evaluation: Markdown for people, CSV and JSON for programs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from garfast.evaluate.geometry import GeometryPlan, row_errors
from garfast.evaluate.rows import Row
from garfast.evaluate.statistics import compare, markdown_table, summarise, write_csv, write_json, write_text

METRICS = ("plane", "surface", "rms", "vertex", "normals")


def write_geometry_report(
    plan: GeometryPlan, rows: Sequence[Row], reports: Sequence[dict[str, Any]], folder: Path
) -> str:
    """Write ``geometry.json``, ``geometry.csv`` and ``geometry.md``.

    Args:
        plan: what was evaluated.
        rows: ways of fitting, in the order of the table.
        reports: of `garfast.evaluate.geometry.evaluate_geometry`.
        folder: where to.

    Returns:
        The Markdown text.

    Raises:
        OutputError: a file cannot be written.
    """
    faces, errors = row_errors(reports, rows)
    failures = {r["index"]: r["failure"] for r in reports if r["failure"] is not None}
    broken = [
        (r["index"], row.name, r["rows"][row.name]["failure"])
        for r in reports
        for row in rows
        if r["failure"] is None and "failure" in r["rows"].get(row.name, {})
    ]
    found = [r for r in reports if r["failure"] is None]
    summary: dict[str, Any] = {
        "plan": plan.settings() | {"count": plan.count},
        "compared": len(faces),
        "no_face": failures,
        "failed_fits": [{"face": index, "row": name, "sentence": text} for index, name, text in broken],
        "rows": {},
        "differences": {},
    }
    lines = [_introduction(plan, len(faces)), ""]
    if not faces:
        lines.append("No face was fitted in every way, so there is nothing to compare.")
    else:
        for row in rows:
            summary["rows"][row.name] = {
                "row": row.to_dict(),
                "face": {m: summarise([getattr(e, m) for e in errors[row.name]]).to_dict() for m in METRICS},
                "identity": {m: summarise(_identity(reports, faces, row, m)).to_dict() for m in METRICS},
                "seconds": summarise([_entry(reports, index, row)["seconds"] for index in faces]).to_dict(),
            }
        lines += [_errors_table(rows, summary), _other_table(rows, summary)]
        if len(rows) > 1:
            lines.append(_differences(rows, errors, summary))
    if found:
        nme = summarise([r["landmark_nme"] for r in found])
        summary["landmark_nme"] = nme.to_dict()
        lines.append(
            f"Landmarks given to the fits ({plan.landmarks}): {100 * nme.mean:.2f} % of the face's size away from the "
            "true ones."
        )
    if failures:
        lines.append(f"No face was found in {len(failures)} of {len(reports)} photographs; they are left out.")
    if broken:
        lines.append(f"{len(broken)} fits failed; their faces are left out. The first: {broken[0][1]}: {broken[0][2]}")
    text = "\n".join(lines).rstrip() + "\n"
    write_json(folder / "geometry.json", summary)
    header = ["face", "row", "yaw", "pitch", "roll", "landmark_nme", *METRICS, *(f"identity_{m}" for m in METRICS)]
    write_csv(folder / "geometry.csv", [*header, "seconds"], list(_csv_rows(rows, reports)))
    write_text(folder / "geometry.md", text)
    return text


def _introduction(plan: GeometryPlan, compared: int) -> str:
    return (
        f"{compared} synthetic {'face' if compared == 1 else 'faces, each another person'} "
        f"(model `{plan.model}`, {plan.size} pixels, "
        f"{'portraits' if plan.pictures == 'portraits' else 'all kinds of photographs'}, seed {plan.seed}, "
        f"{plan.projection} fit), compared within {plan.radius:g} mm of the tip of the nose after the best rigid "
        "motion."
    )


def _errors_table(rows: Sequence[Row], summary: dict[str, Any]) -> str:
    table = []
    for row in rows:
        s = summary["rows"][row.name]["face"]["plane"]
        identity = summary["rows"][row.name]["identity"]["plane"]
        table.append(
            [
                row.name,
                *(f"{s[key]:.3f}" for key in ("mean", "median", "std")),
                f"{s['low']:.3f} to {s['high']:.3f}",
                f"{identity['mean']:.3f}",
            ]
        )
    header = ["point to plane, mm", "mean", "median", "std", "95 % of the mean", "identity alone"]
    return markdown_table(header, table)


def _other_table(rows: Sequence[Row], summary: dict[str, Any]) -> str:
    table = []
    for row in rows:
        s = summary["rows"][row.name]
        means = [s["face"][m]["mean"] for m in ("surface", "rms", "vertex", "normals")]
        table.append([row.name, *(f"{m:.3f}" for m in means[:3]), f"{means[3]:.2f}", f"{s['seconds']['mean']:.2f}"])
    header = ["means", "surface, mm", "rms, mm", "vertex, mm", "normals, °", "seconds"]
    return markdown_table(header, table)


def _differences(rows: Sequence[Row], errors: dict[str, list[Any]], summary: dict[str, Any]) -> str:
    table = []
    for first, second in itertools.combinations([row.name for row in rows], 2):
        result = compare([e.plane for e in errors[first]], [e.plane for e in errors[second]])
        summary["differences"][f"{second} - {first}"] = result.to_dict()
        d = result.difference
        table.append(
            [
                f"{second} − {first}",
                f"{d.mean:+.3f}",
                f"{d.median:+.3f}",
                f"{d.low:+.3f} to {d.high:+.3f}",
                f"{100 * result.better:.0f} %",
            ]
        )
    header = ["paired difference, mm", "mean", "median", "95 % of the mean", "faces better"]
    return markdown_table(header, table)


def _entry(reports: Sequence[dict[str, Any]], index: int, row: Row) -> dict[str, Any]:
    (report,) = (r for r in reports if r["index"] == index)
    entry: dict[str, Any] = report["rows"][row.name]
    return entry


def _identity(reports: Sequence[dict[str, Any]], faces: Sequence[int], row: Row, metric: str) -> list[float]:
    return [float(_entry(reports, index, row)["identity"][metric]) for index in faces]


def _csv_rows(rows: Sequence[Row], reports: Sequence[dict[str, Any]]) -> Any:
    for report in reports:
        if report["failure"] is not None:
            continue
        for row in rows:
            entry = report["rows"].get(row.name, {})
            if "face" not in entry:
                continue
            numbers = [*(entry["face"][m] for m in METRICS), *(entry["identity"][m] for m in METRICS)]
            yield [
                report["index"],
                row.name,
                *(f"{angle:.2f}" for angle in report["angles"]),
                f"{report['landmark_nme']:.5f}",
                *(f"{number:.5f}" for number in numbers),
                entry["seconds"],
            ]
