"""What came of `make production`: printed, kept, and written into `docs/deployment.md` when this module is run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.revision import commit
from tests.support.fault_table import Fault, as_markdown
from tests.support.paths import CHECKOUT

PROPERTY = "figures"  # of a test, which holds what it measured
KEPT = CHECKOUT / "tests" / "output" / "production.json"
PAGE = CHECKOUT / "docs" / "deployment.md"
BEGIN, END = "<!-- written by `make production` -->\n", "<!-- until here -->\n"
DISTRIBUTIONS = ("apache-airflow", "apache-airflow-providers-celery", "apache-airflow-providers-google")


def keep(faults: Sequence[Fault], reports: Sequence[Any]) -> str:
    """Keep what a run showed, and return its figures for a terminal.

    :param reports: of the tests that passed or failed
    """
    figures = [value for report in reports for name, value in report.user_properties if name == PROPERTY]
    kept = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "services": {"PostgreSQL": _first_line("psql", "--version"), "Redis": _first_line("redis-server", "--version")},
        "passed": sum(report.outcome == "passed" and report.when == "call" for report in reports),
        "failed": sorted({report.nodeid for report in reports if report.outcome == "failed"}),
        "faults": faults,
        "figures": figures,
    }
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(kept, indent=1))
    return "\n".join(map(as_text, figures))


def as_text(figures: dict[str, Any]) -> str:
    """Return figures, one a line."""
    return "\n".join(f"{name:>32}  {value}" for name, value in _named(figures).items())


def _named(figures: dict[str, Any]) -> dict[str, str]:
    """Return figures as they are shown, by what they are of."""
    count, cpu = figures["count"], figures["cpu_seconds"]
    return {
        "notebooks": f"{count}, mapped, of 40 s each, deferrable, `poll_interval` 10 s",
        "wall time": f"{figures['seconds']:.0f} s",
        **{f"CPU of {name}": f"{value:.0f} s, {value / count:.2f} s a notebook" for name, value in cpu.items()},
        "CPU of all": f"{sum(cpu.values()):.0f} s, {sum(cpu.values()) / count:.2f} s a notebook",
        "calls of the API": ", ".join(f"{number} {name}" for name, number in sorted(figures["calls"].items())),
        "an end is seen after": f"{figures['detection_p50']:.1f} s (median), {figures['detection_p95']:.1f} s (p95)",
        "jobs created": str(figures["created"]),
        "jobs left active": str(figures["active"]),
    }


def page(kept: dict[str, Any]) -> str:
    """Return the part of the page that is written."""
    of = {**kept["versions"], **kept["services"]}
    lines = [
        f"Run on {kept['date']} at commit {kept['commit']}: {kept['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in of.items())
        + f". {kept['passed']} tests passed, {len(kept['failed'])} failed.",
        "",
        *(f"Failed: `{test}`" for test in kept["failed"]),
        as_markdown([Fault(*row) for row in kept["faults"]]),
    ]
    for figures in kept["figures"]:
        rows = "".join(f"| {name} | {value} |\n" for name, value in _named(figures).items())
        lines.append(f"| figure | value |\n|---|---|\n{rows}")
    return "\n".join(lines)


def write(into: Path, kept: dict[str, Any]) -> None:
    """Write what was kept into a page, between its two marks."""
    before, _, rest = into.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    into.write_text(before + BEGIN + "\n" + page(kept) + "\n" + END + after)


def _first_line(*command: str) -> str:
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next(word.removeprefix("v=") for word in words if word.removeprefix("v=")[0].isdigit())


if __name__ == "__main__":
    write(PAGE, json.loads(KEPT.read_text()))
