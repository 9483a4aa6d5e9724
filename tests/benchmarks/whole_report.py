"""Tell what a whole Airflow took for each kind of task, and which figures are reached."""

from __future__ import annotations

from tests.benchmarks.tables import FIGURE_COLUMNS, Columns, Rows, judged, table
from tests.benchmarks.whole_kinds import DEFERRED, IN_TRIGGERER, KINDS, OURS, OURS_IN_TRIGGERER, PEERS

TITLE = (
    "A whole Airflow: CPU seconds a task, above idle; requests to the execution API and calls of the fake API a task"
)
# The cores of others are what all else on the machine took meanwhile, the fake services and this program included.
COLUMNS: Columns = {
    "": ("title", ""),
    "tasks": ("tasks", "d"),
    "CPU s": ("cpu", ".2f"),
    "x bare deferred": ("of_floor", ".1f"),
    "workers": ("cpu_workers", ".2f"),
    "scheduler": ("cpu_scheduler", ".2f"),
    "API server": ("cpu_api_server", ".2f"),
    "triggerer": ("cpu_triggerer", ".2f"),
    "wall s": ("wall", ".0f"),
    "requests": ("requests", ".1f"),
    "API calls": ("calls", ".1f"),
    "task MB": ("task_mb", ".0f"),
    "triggerer MB": ("triggerer_mb", ".0f"),
    "grown": ("triggerer_growth_mb", ".0f"),
    "all MB": ("whole_mb", ".0f"),
    "others' cores": ("other_cores", ".2f"),
}
REQUEST_COLUMNS: Columns = {"": ("title", ""), "request": ("request", ""), "a task": ("count", ".2f")}


def report(rows: Rows) -> str:
    """Return the tables."""
    tables = [
        table(TITLE, with_ratios(rows), COLUMNS),
        table("Requests to the execution API, a task", requests_of(rows), REQUEST_COLUMNS),
        table("Figures to reach", reached(rows), FIGURE_COLUMNS),
    ]
    return "\n\n".join(tables)


def with_ratios(rows: Rows) -> Rows:
    """Add to each row its CPU as a multiple of that of a bare deferred task, if that was measured."""
    floor = {row["tasks"]: row["cpu"] for row in rows if row["kind"] == DEFERRED}
    for row in rows:
        row["of_floor"] = row["cpu"] / floor[row["tasks"]] if floor.get(row["tasks"]) else None
    return rows


def reached(rows: Rows) -> Rows:
    """Return what was set out to be reached, as far as it was measured."""
    by = {(row["kind"], row["tasks"]): row for row in rows}

    def of(kind: str, tasks: int, key: str) -> float | None:
        return by.get((kind, tasks), {}).get(key)

    def above(kind: str, floor: str, tasks: int, key: str = "cpu") -> float | None:
        ours, bare = of(kind, tasks, key), of(floor, tasks, key)
        return None if ours is None or bare is None else ours - bare

    def share(tasks: int, peer: str) -> float | None:
        ours, theirs = of(OURS, tasks, "cpu"), of(peer, tasks, "cpu")
        return None if ours is None or not theirs else ours / theirs

    def requests(tasks: int) -> float | None:
        found = by.get((OURS, tasks), {}).get("requests_by_kind", {})
        return sum(count for name, count in found.items() if "heartbeat" not in name) or None

    figures: list[tuple[str, float | None, float]] = []
    for tasks in dict.fromkeys(row["tasks"] for row in rows):
        figures += [
            (f"{tasks} tasks: CPU s above a bare deferred task", above(OURS, DEFERRED, tasks), 0.5),
            ("  of it the API server's", above(OURS, DEFERRED, tasks, "cpu_api_server"), 0.1),
            ("  requests to the execution API, heartbeats apart", requests(tasks), 10),
            (
                "  start_from_trigger: CPU s above a bare task in the triggerer",
                above(OURS_IN_TRIGGERER, IN_TRIGGERER, tasks),
                0.1,
            ),
            ("  start_from_trigger: wall s above a job's", of(OURS_IN_TRIGGERER, tasks, "wall_above_job"), 10),
            *((f"  CPU, of that of {KINDS[peer].title}", share(tasks, peer), 1.0) for peer in PEERS),
        ]
    return judged(figures)


def requests_of(rows: Rows) -> Rows:
    """Return a row for each kind of task and of request."""
    return [
        {"title": f"{row['title']}, {row['tasks']}" if number == 0 else "", "request": name, "count": count}
        for row in rows
        for number, (name, count) in enumerate(row["requests_by_kind"].items())
    ]
