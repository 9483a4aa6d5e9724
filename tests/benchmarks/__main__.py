"""What a thousand deferred jobs cost, side by side with the Google provider's triggers of the same kind.

``make bench-watch`` takes about 55 minutes; with ``BENCH="--waiting 100 1000 --seconds 30"`` about 17. The figures
are printed, and written as JSON and as a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.chart import draw
from tests.benchmarks.kinds import CLASSES, FIXED, GAP_VARIABLE, POLL_INTERVAL
from tests.benchmarks.tables import FIGURE_COLUMNS, Columns, Rows, judged, median, show
from tests.support import keeper

OUTPUT = Path(__file__).parents[1] / "output" / "benchmarks.json"
PEERS = ("custom training", "hyperparameter tuning")
PEERS_AT_MOST = 5_000  # waiting; with more they are saturated, and no figure says much
AUDITS_PER_MINUTE = 3  # with sweeps 10 s apart
COMPARED = 1_000  # waiting, with which our pace is compared with a fixed one


def main() -> None:
    keeper.start()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--waiting", type=int, nargs="+", default=[100, 1_000, 5_000, 10_000], metavar="N")
    kinds = [kind for kind in CLASSES if kind != FIXED]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each window (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as home:
        os.environ.update(environment(home))
        from tests.benchmarks.imports import deferring, parsing
        from tests.support.service_process import Service

        show("Parsing a DAG: imports over `from airflow.sdk import DAG`", parsed := parsing(), IMPORT_COLUMNS)
        service = Service("tests.benchmarks.fake_service")
        try:
            deferred = deferring(service)
        finally:
            service.close()
        show("A worker: from the start of `execute` to `TaskDeferred`", deferred, IMPORT_COLUMNS)
        waited = above_idle(waiting(options))
        compared = compared_with_fixed(options, waited)
    hour = an_hour()
    show("A triggerer: jobs that wait (CPU above that of as many sleeping triggers)", waited, WAIT_COLUMNS)
    show("A triggerer: after a minute without a change one in ten ends within a minute", compared, DETECTION_COLUMNS)
    show("An hour, simulated: two groups of mapped tasks among jobs that run for hours", hour, HOUR_COLUMNS)
    show("Figures to reach", reached(parsed, waited, hour), FIGURE_COLUMNS)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    options.output.write_text(
        json.dumps(
            {
                "machine": machine,
                "parsing": parsed,
                "deferring": deferred,
                "waiting": waited,
                "compared": compared,
                "hour": hour,
            },
            indent=1,
        )
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
        if row := measured_once(kind, number, options.seconds):
            measured.setdefault((kind, number), []).append(row)
    return [median(rows) for rows in measured.values()]


def measured_once(kind: str, number: int, seconds: float, **environment: str) -> dict[str, Any] | None:
    """Run one measurement; None if it failed."""
    order = json.dumps({"kind": kind, "waiting": number, "seconds": seconds})
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.triggerer", order],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        print(f"{run.stderr[-3000:]}\n{kind}, {number:,} waiting: the measurement FAILED", flush=True)
        return None
    row: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    print(f"  {row['calls_per_minute']:,.0f} calls a minute, {row['rss_growth_mb']:.0f} MB", flush=True)
    return row


def compared_with_fixed(options: argparse.Namespace, waited: Rows) -> Rows:
    """Measure looks that are a fixed time apart beside our pace: for as many calls, and one in 10 s."""
    found = [row for row in waited if (row["kind"], row["waiting"]) == ("ours", COMPARED)]
    for ours in list(found):
        for gap in (gap_for(calls(ours)), float(POLL_INTERVAL)):
            print(f"fixed, {gap:.1f} s apart, {COMPARED:,} waiting ...", flush=True)
            if row := measured_once(FIXED, COMPARED, options.seconds, **{GAP_VARIABLE: str(gap)}):
                found.append({**row, "kind": f"fixed: {gap:.1f} s"})
    return [{**row, "calls": calls(row)} for row in found]


def calls(row: dict[str, Any]) -> float:
    """Return the mean number of calls a minute over both windows."""
    return float(row["calls_per_minute"] + row["calls_per_minute_while_ending"]) / 2


def gap_for(calls_per_minute: float) -> float:
    """Return the seconds between looks that make so many calls: each pause is up to a tenth shorter."""
    return 60 / 0.95 / max(1.0, calls_per_minute - AUDITS_PER_MINUTE)


def an_hour() -> Rows:
    """Simulate an hour; see `tests.benchmarks.hour`."""
    from tests.benchmarks.hour import rows

    return rows()


def above_idle(rows: Rows) -> Rows:
    """Add to each row the CPU seconds a minute that it takes above as many triggers that only sleep."""
    idle = {row["waiting"]: row for row in rows if row["kind"] == "idle"}
    for row in rows:
        base = idle.get(row["waiting"])
        cpu = row["cpu_runner"] + row["cpu_supervisor"]
        row["cpu_above_idle"] = cpu - (base["cpu_runner"] + base["cpu_supervisor"]) if base else None
    return rows


def reached(parsed: Rows, rows: Rows, hour: Rows) -> Rows:
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
        ("calls a minute, nothing ends for 11 minutes, 1,000 waiting", hour[0]["calls_at_rest"], 12),
        (
            "  of the cheaper peer's: one of",
            ratio(hour[0]["calls_at_rest"], cheapest(1_000, "calls_per_minute")),
            1 / 400,
        ),
        ("calls a minute, 100 a minute ending, 1,000 waiting", of("ours", 1_000, "calls_per_minute_while_ending"), 60),
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
        ("detection p95, s, 1,000 waiting", of("ours", 1_000, "detection_p95_s"), 2.5),
        *(
            (f"detection {part}, s, of a fixed interval's with as many calls", ratio(hour[0][key], hour[1][key]), 0.5)
            for part, key in (("p50", "detection_p50_s"), ("p95", "detection_p95_s"))
        ),
        ("parsing, ms", ours["ms"], 50),
        ("parsing, MB", ours["mb"], 2),
    ]
    return judged(figures)


IMPORT_COLUMNS: Columns = {"": ("what", ""), "ms": ("ms", ".0f"), "MB": ("mb", ".1f")}
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
DETECTION_COLUMNS: Columns = {
    "": ("kind", ""),
    "waiting": ("waiting", ",d"),
    "calls/min": ("calls", ",.0f"),
    "nothing changes": ("calls_per_minute", ",.0f"),
    "while ending": ("calls_per_minute_while_ending", ",.0f"),
    "detected": ("detected", ",d"),
    "of": ("ended", ",d"),
    "p50 s": ("detection_p50_s", ".1f"),
    "p95": ("detection_p95_s", ".1f"),
    "max": ("detection_max_s", ".1f"),
}
HOUR_COLUMNS: Columns = {
    "": ("kind", ""),
    "waiting": ("waiting", ",d"),
    "calls/min": ("calls_per_minute", ",.1f"),
    "at rest": ("calls_at_rest", ",.1f"),
    "most": ("most", "d"),
    "ends": ("ended", "d"),
    "p50 s": ("detection_p50_s", ".2f"),
    "p95": ("detection_p95_s", ".2f"),
    "max": ("detection_max_s", ".2f"),
}


if __name__ == "__main__":
    main()
