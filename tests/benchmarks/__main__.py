"""What a thousand deferred jobs cost, side by side with the Google provider's triggers of the same kind.

``make bench`` takes about 45 minutes; ``make bench BENCH="--waiting 100 1000 --seconds 30"`` about 12. The figures
are printed, and written as JSON and as a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.chart import draw
from tests.benchmarks.kinds import CLASSES, POLL_INTERVAL
from tests.support import keeper

OUTPUT = Path(__file__).parents[1] / "output" / "benchmarks.json"
PEERS = ("custom training", "hyperparameter tuning")
PEERS_AT_MOST = 5_000  # waiting; with more they are saturated, and no figure says much
Rows = list[dict[str, Any]]


def main() -> None:
    keeper.start()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--waiting", type=int, nargs="+", default=[100, 1_000, 5_000, 10_000], metavar="N")
    parser.add_argument("--kinds", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each window (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as home:
        os.environ.update(environment(home))
        from tests.benchmarks.imports import deferring, parsing
        from tests.support.triggerer import Service

        show("Parsing a DAG: imports over `from airflow.sdk import DAG`", parsed := parsing(), IMPORT_COLUMNS)
        service = Service("tests.benchmarks.fake_service")
        try:
            deferred = deferring(service)
        finally:
            service.close()
        show("A worker: from the start of `execute` to `TaskDeferred`", deferred, IMPORT_COLUMNS)
        waited = above_idle(waiting(options))
    show("A triggerer: jobs that wait (CPU above that of as many sleeping triggers)", waited, WAIT_COLUMNS)
    show("Figures to reach", reached(parsed, waited), FIGURE_COLUMNS)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    options.output.write_text(
        json.dumps({"machine": machine, "parsing": parsed, "deferring": deferred, "waiting": waited}, indent=1)
    )
    picture = options.output.with_suffix(".png")
    draw(waited, picture)
    print(f"\n{options.output}\n{picture}")
    if len(waited) < len(planned(options)):
        sys.exit("Not all measurements succeeded.")


def environment(home: str) -> dict[str, str]:
    """Airflow's settings: its own folder, and a connection that needs no database."""
    return {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(
            {"conn_type": "google_cloud_platform", "extra": {"project": "bench"}}
        ),
    }


def planned(options: argparse.Namespace) -> list[tuple[str, int]]:
    """What is to be measured: which kind, with how many that wait."""
    return [
        (kind, number)
        for number in options.waiting
        for kind in options.kinds
        if kind not in PEERS or number <= PEERS_AT_MOST
    ]


def waiting(options: argparse.Namespace) -> Rows:
    """Run all measurements, by turns, each in processes of its own."""
    runs = [run for run in planned(options) for _ in range(options.repeat)]
    measured: dict[tuple[str, int], Rows] = {}
    started = time.monotonic()
    for done, (kind, number) in enumerate(runs):
        minutes = (time.monotonic() - started) / 60
        print(f"[{done + 1}/{len(runs)}, {minutes:.0f} min] {kind}, {number:,} waiting ...", flush=True)
        order = json.dumps({"kind": kind, "waiting": number, "seconds": options.seconds})
        run = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.triggerer", order], capture_output=True, text=True, check=False
        )
        if run.returncode:
            print(f"{run.stderr[-3000:]}\n{kind}, {number:,} waiting: the measurement FAILED", flush=True)
            continue
        row = json.loads(run.stdout.splitlines()[-1])
        print(f"  {row['calls_per_minute']:,.0f} calls a minute, {row['rss_growth_mb']:.0f} MB", flush=True)
        measured.setdefault((kind, number), []).append(row)
    return [median(rows) for rows in measured.values()]


def median(rows: Rows) -> dict[str, Any]:
    """The medians of the numbers of several runs."""
    first = rows[0]
    return {
        key: statistics.median(values)
        if isinstance(value, (int, float)) and None not in (values := [row[key] for row in rows])
        else value
        for key, value in first.items()
    }


def above_idle(rows: Rows) -> Rows:
    """Add to each row the CPU seconds a minute that it takes above as many triggers that only sleep."""
    idle = {row["waiting"]: row for row in rows if row["kind"] == "idle"}
    for row in rows:
        base = idle.get(row["waiting"])
        cpu = row["cpu_runner"] + row["cpu_supervisor"]
        row["cpu_above_idle"] = cpu - (base["cpu_runner"] + base["cpu_supervisor"]) if base else None
    return rows


def reached(parsed: Rows, rows: Rows) -> Rows:
    """What was set out to be reached, as far as it was measured."""
    by = {(row["kind"], row["waiting"]): row for row in rows}

    def of(kind: str, number: int, key: str) -> float | None:
        return by.get((kind, number), {}).get(key)

    def cheapest(number: int, key: str) -> float | None:
        return min((value for peer in PEERS if (value := of(peer, number, key)) is not None), default=None)

    def ratio(part: float | None, whole: float | None) -> float | None:
        return None if part is None or not whole else part / whole

    ours = parsed[0]
    figures = [
        ("calls a minute, nothing changes, 1,000 waiting", of("ours", 1_000, "calls_per_minute"), 12),
        (
            "  of the cheaper peer's: one of",
            ratio(of("ours", 1_000, "calls_per_minute"), cheapest(1_000, "calls_per_minute")),
            1 / 400,
        ),
        (
            "calls a minute, 600 a minute ending, 10,000 waiting",
            of("ours", 10_000, "calls_per_minute_while_ending"),
            60,
        ),
        *(
            (
                f"CPU above idle, {number:,} waiting: one of the cheaper peer's",
                ratio(of("ours", number, "cpu_above_idle"), cheapest(number, "cpu_above_idle")),
                part,
            )
            for number, part in ((1_000, 1 / 10), (5_000, 1 / 25))
        ),
        (
            "memory, imports included, 1,000 waiting: one of the cheaper peer's",
            ratio(of("ours", 1_000, "rss_growth_mb"), cheapest(1_000, "rss_growth_mb")),
            1 / 4,
        ),
        ("lag of the event loop p99, ms, 10,000 waiting", of("ours", 10_000, "lag_p99_ms"), 20),
        ("lag of the event loop max, ms, 10,000 waiting", of("ours", 10_000, "lag_max_ms"), 100),
        ("detection p95, s, 1,000 waiting", of("ours", 1_000, "detection_p95_s"), 1.2 * POLL_INTERVAL),
        ("parsing, ms", ours["ms"], 50),
        ("parsing, MB", ours["mb"], 2),
    ]
    return [
        {"figure": name, "measured": value, "at most": most, "reached": "yes" if value <= most else "NO"}
        for name, value, most in figures
        if value is not None
    ]


# column title: key of the row, and how its value is printed
Columns = dict[str, tuple[str, str]]
IMPORT_COLUMNS: Columns = {"": ("what", ""), "ms": ("ms", ".0f"), "MB": ("mb", ".1f")}
FIGURE_COLUMNS: Columns = {
    "": ("figure", ""),
    "measured": ("measured", ".4g"),
    "at most": ("at most", ".4g"),
    "reached": ("reached", ""),
}
WAIT_COLUMNS: Columns = {
    "": ("kind", ""),
    "waiting": ("waiting", ",d"),
    "calls/min": ("calls_per_minute", ",.0f"),
    "while ending": ("calls_per_minute_while_ending", ",.0f"),
    "CPU s/min": ("cpu_above_idle", ".2f"),
    "runner": ("cpu_runner", ".2f"),
    "supervisor": ("cpu_supervisor", ".2f"),
    "MB": ("rss_growth_mb", ".0f"),
    "lag p99 ms": ("lag_p99_ms", ".1f"),
    "max": ("lag_max_ms", ".0f"),
    "channels": ("channels", ",d"),
    "threads": ("threads", "d"),
    "failed": ("failed", ",d"),
    "detected": ("detected", ",d"),
    "of": ("ended", ",d"),
    "p50 s": ("detection_p50_s", ".1f"),
    "p95": ("detection_p95_s", ".1f"),
}


def show(title: str, rows: Rows, columns: Columns) -> None:
    """Print a table."""
    lines = [list(columns)] + [
        ["-" if row[key] is None else format(row[key], form) for key, form in columns.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}\n")
    for line in lines:
        first, *others = zip(line, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]), flush=True)


if __name__ == "__main__":
    main()
