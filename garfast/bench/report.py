"""Results as a table, JSON, CSV and plots."""

from __future__ import annotations

import csv
import datetime
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from garfast import __version__
from garfast.bench.cases import Case
from garfast.bench.timing import Ceiling, Timing
from garfast.errors import GarfastError
from garfast.io.atomic import atomic_path


@dataclass(frozen=True)
class Row:
    """One case measured with two or more implementations."""

    op: str
    label: str
    batch: int
    dtype: str
    direction: str
    flops: float
    min_bytes: float
    timings: dict[str, Timing]

    @property
    def speedup(self) -> float:
        """Median time of the reference over that of the kernels."""
        return self.timings["reference"].median / self.timings["kernel"].median

    def fraction_of_ceiling(self, ceiling: Ceiling) -> float:
        """Ideal time (whichever of arithmetic and memory takes longer) over the kernels' time; forward only."""
        rate = ceiling.flops_per_second.get(self.dtype, math.inf)
        ideal = max(self.flops / rate, self.min_bytes / ceiling.copy_bytes_per_second)
        return ideal / self.timings["kernel"].median

    @property
    def fraction_of_clone(self) -> float | None:
        """Time of copying the input into newly allocated memory over the kernels' time; None where not measured.

        The ceiling's copy goes into memory that is there already, which on a CPU is faster: a new result's pages must
        be fetched from the system first.
        """
        return self.timings["clone"].median / self.timings["kernel"].median if "clone" in self.timings else None


def row(case: Case, timings: dict[str, Timing]) -> Row:
    """The row of a measured case."""
    dtype = str(case.dtype).removeprefix("torch.")
    return Row(case.op, case.label, case.batch, dtype, case.direction, case.flops, case.min_bytes, timings)


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean; NaN of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def machine(device: torch.device | str) -> dict[str, Any]:
    """Machine, versions and date, for the head of a result file."""
    device = torch.device(device)
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "garfast": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": _processor(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"device": properties.name, "capability": f"{properties.major}.{properties.minor}"}
        facts |= {"cuda": torch.version.cuda, "driver": _driver()}
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} logical cores)" if names else platform.machine()


def _driver() -> str:
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return "unknown"
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")


def table(rows: Sequence[Row], ceiling: Ceiling) -> str:
    """A plain-text table, one line per case, with the geometric mean of the speed-ups per operator and direction.

    'speed-up' is over the reference, 'compiled' over the reference under torch.compile; 'ceiling' and 'clone' are the
    shares of what the copy bandwidth and matrix rate allow and of the speed of ``x.clone()``.
    """
    head = f"{'case':<58} {'reference':>12} {'kernel':>12} {'speed-up':>9} {'compiled':>9} {'ceiling':>8} {'clone':>6}"
    lines = [head, "-" * len(head)]
    for r in rows:
        name = f"{r.op} {r.label} x{r.batch} {r.dtype} {'fwd+bwd' if r.direction != 'forward' else 'fwd'}"
        share = f"{100 * r.fraction_of_ceiling(ceiling):.0f}%" if r.direction == "forward" else ""
        compiled = r.timings.get("compiled")
        over_compiled = f"{compiled.median / r.timings['kernel'].median:.2f}x" if compiled else ""
        clone = "" if r.fraction_of_clone is None else f"{100 * r.fraction_of_clone:.0f}%"
        times = [f"{1e3 * r.timings[k].median:.3f} ms" for k in ("reference", "kernel")]
        lines.append(
            f"{name:<58} {times[0]:>12} {times[1]:>12} {r.speedup:>8.2f}x {over_compiled:>9} {share:>8} {clone:>6}"
        )
    lines.append("")
    for op in dict.fromkeys(r.op for r in rows):
        for direction in dict.fromkeys(r.direction for r in rows):
            for batch in dict.fromkeys(r.batch for r in rows):
                gains = [r.speedup for r in rows if (r.op, r.direction, r.batch) == (op, direction, batch)]
                if gains:
                    mean = geometric_mean(gains)
                    lines.append(
                        f"{op}, {direction}, batch {batch}: geometric mean {mean:.2f}x, least {min(gains):.2f}x"
                    )
    return "\n".join(lines)


def save_numbers(folder: Path, rows: Sequence[Row], ceiling: Ceiling, facts: dict[str, Any]) -> None:
    """Write results.json alone.

    Raises:
        OutputError: the folder cannot be written.
    """
    with atomic_path(folder / "results.json") as path:
        document = {"machine": facts, "ceiling": asdict(ceiling), "rows": [asdict(r) for r in rows]}
        path.write_text(json.dumps(document, indent=1) + "\n")


def save(folder: Path, rows: Sequence[Row], ceiling: Ceiling, facts: dict[str, Any]) -> list[Path]:
    """Write results.json, results.csv and, where matplotlib is installed, speedup.png; with convolutions among the rows
    also roofline.png.

    Raises:
        OutputError: the folder cannot be written.
    """
    save_numbers(folder, rows, ceiling, facts)
    written = [folder / "results.json", folder / "results.csv"]
    with atomic_path(folder / "results.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "op",
                "label",
                "batch",
                "dtype",
                "direction",
                "implementation",
                "median_s",
                "p20_s",
                "p80_s",
                "runs",
                "peak_bytes",
            ]
        )
        for r in rows:
            for name, t in r.timings.items():
                head = [r.op, r.label, r.batch, r.dtype, r.direction]
                writer.writerow([*head, name, t.median, t.p20, t.p80, t.runs, t.peak_bytes])
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return written
    plots = {"speedup.png": _draw_speedup}
    if any(r.flops and r.direction == "forward" for r in rows):
        plots["roofline.png"] = _draw_roofline
    for name, draw in plots.items():
        with atomic_path(folder / name) as path:
            draw(path, rows, ceiling, facts)
        written.append(folder / name)
    return written


def load(path: Path) -> tuple[list[Row], Ceiling, dict[str, Any]]:
    """Read a results.json.

    Raises:
        GarfastError: the file is not one that :func:`save` wrote.
    """
    try:
        document = json.loads(path.read_text())
        rows = [
            Row(**{**r, "timings": {name: Timing(**t) for name, t in r["timings"].items()}}) for r in document["rows"]
        ]
        return rows, Ceiling(**document["ceiling"]), document["machine"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GarfastError(f"{path} is not a benchmark result written by garfast ({error})") from error


def _title(facts: dict[str, Any]) -> str:
    return f"{facts['device']}, torch {facts['torch']}, {facts['date']}"


def _draw_speedup(path: Path, rows: Sequence[Row], ceiling: Ceiling, facts: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(f"{r.op}\n{r.label}" for r in rows))
    series = list(dict.fromkeys((r.batch, r.dtype, r.direction) for r in rows))
    figure = Figure(figsize=(max(8.0, 0.55 * len(labels) * max(1, len(series) / 3)), 5.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(series)
    for k, key in enumerate(series):
        values = {f"{r.op}\n{r.label}": r.speedup for r in rows if (r.batch, r.dtype, r.direction) == key}
        positions = [labels.index(label) - 0.4 + (k + 0.5) * width for label in values]
        above_one = [value - 1 for value in values.values()]
        axes.bar(positions, above_one, width, bottom=1, label=f"batch {key[0]}, {key[1]}, {key[2]}")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")  # a rasteriser 70 times as fast would hide the rest
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_ylabel("speed-up over the reference operators")
    axes.set_title(_title(facts), fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=130)


def _draw_roofline(path: Path, rows: Sequence[Row], ceiling: Ceiling, facts: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    forward = [r for r in rows if r.direction == "forward"]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    intensities = [0.25, 4096.0]
    for dtype, rate in ceiling.flops_per_second.items():
        knee = rate / ceiling.copy_bytes_per_second
        roof = [min(rate, i * ceiling.copy_bytes_per_second) / 1e9 for i in (intensities[0], knee, intensities[1])]
        axes.plot([intensities[0], knee, intensities[1]], roof, color="black", linewidth=1)
        axes.annotate(f"{dtype} matrix product", (knee, rate / 1e9), fontsize=7, va="bottom")
    for name, marker in (("reference", "o"), ("kernel", "^")):
        points = [(r.flops / r.min_bytes, r.flops / r.timings[name].median / 1e9) for r in forward if r.flops]
        axes.scatter([x for x, _ in points], [y for _, y in points], marker=marker, s=18, label=name)
    axes.set(xscale="log", yscale="log", xlabel="FLOPs per byte that must move", ylabel="GFLOP/s")
    axes.set_title(_title(facts), fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
