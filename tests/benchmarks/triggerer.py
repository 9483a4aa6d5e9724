"""One measurement: many triggers of one kind in Airflow's own triggerer, without a metadata database.

Runs in a process of its own: ``python -m tests.benchmarks.triggerer '{"kind": ..., "waiting": ..., "seconds": ...}'``
prints the figures as JSON on its last line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.kinds import CLASSES, FIXED, SERVICE_VARIABLE, arguments
from tests.support.service_process import Service
from tests.support.triggerer import PROBE, Supervisor

TAIL_SECONDS = 45.0  # in which the last ends must be detected
ENDING_PER_MINUTE_MAX = 600


def percentile(values: list[float], part: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else None


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def measure(
    service: Service, folder: Path, kind: str, waiting: int, seconds: float, start: float = 10.0, settle: float = 20.0
) -> dict[str, Any]:
    """Measure two windows: one in which nothing changes, one in which a tenth of the jobs ends.

    :param seconds: length of a window
    :param start: seconds in which all triggers are started
    :param settle: seconds before the first window
    """
    service("begin", waiting=waiting)
    supervisor = Supervisor.start(capacity=waiting + 1)
    supervisor.prepare(folder)
    supervisor.add(0.0, PROBE, "tests.benchmarks.probe.Probe", {"folder": str(folder)})
    runner, own = psutil.Process(supervisor.pid), psutil.Process()
    supervisor.run_until(time.monotonic() + 5)
    rss_before = runner.memory_info().rss

    started = time.monotonic()
    for number in range(waiting):
        at = started + start * number / waiting
        supervisor.add(at, number + 1, CLASSES[kind], arguments(kind, number))
    settled = started + start + settle
    if kind in ("ours", FIXED):  # a watch meets its newcomers by the page, within its request budget
        settled += waiting / 100 * 1.3
    supervisor.run_until(settled)

    quiet = time.monotonic()
    calls, cpus = service("report")["calls"], (cpu(runner), cpu(own))
    supervisor.run_until(quiet + seconds)
    quiet_end = time.monotonic()
    calls_after, cpus_after = service("report")["calls"], (cpu(runner), cpu(own))
    rss_after = runner.memory_info().rss
    per_minute = 60 / (quiet_end - quiet)

    busy = time.monotonic()
    ending = min(round(waiting / 10), round(ENDING_PER_MINUTE_MAX * seconds / 60))
    service("end", count=ending, seconds=seconds)
    supervisor.run_until(busy + seconds)
    busy_end = time.monotonic()
    calls_busy = service("report")["calls"]
    while len(supervisor.detected) < ending and time.monotonic() < busy_end + TAIL_SECONDS and kind != "idle":
        supervisor.run_once()
    ended = service("report")["ended"]
    latencies = [
        supervisor.detected[number + 1] - ended[f"job-{number}"]
        for number in range(ending)
        if number + 1 in supervisor.detected
    ]
    if supervisor.failed and kind in ("ours", FIXED):  # a peer's may give up under load; that is a figure
        raise RuntimeError(f"{len(supervisor.failed)} triggers failed, such as {supervisor.failed[:1]}")
    (folder / "stop").touch()
    while PROBE not in supervisor.detected and supervisor.is_alive():
        supervisor.run_once()
    probe = json.loads((folder / "probe.json").read_text())
    supervisor.kill(signal.SIGTERM, force=True)

    lags = [lag * 1000 for at, lag in probe["lags"] if quiet <= at <= busy_end]
    return {
        "kind": kind,
        "waiting": waiting,
        "calls_per_minute": (sum(calls_after.values()) - sum(calls.values())) * per_minute,
        "calls_per_minute_while_ending": (sum(calls_busy.values()) - sum(calls_after.values()))
        * 60
        / (busy_end - busy),
        "ending_per_minute": ending * 60 / seconds,
        "cpu_runner": (cpus_after[0] - cpus[0]) * per_minute,
        "cpu_supervisor": (cpus_after[1] - cpus[1]) * per_minute,
        "rss_growth_mb": (rss_after - rss_before) / 1e6,
        "lag_p99_ms": percentile(lags, 0.99),
        "lag_max_ms": max(lags),
        "channels": probe["channels"],
        "threads": max(count for at, count in probe["threads"] if quiet <= at <= quiet_end),
        "failed": len(supervisor.failed),
        "detected": len(latencies),
        "ended": ending,
        "detection_p50_s": percentile(latencies, 0.5),
        "detection_p95_s": percentile(latencies, 0.95),
        "detection_max_s": percentile(latencies, 1.0),
    }


def main() -> None:
    order = json.loads(sys.argv[1])
    service = Service("tests.benchmarks.fake_service")
    os.environ[SERVICE_VARIABLE] = service.address
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(service, Path(folder), **order)
    finally:
        service.close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
