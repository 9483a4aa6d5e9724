"""What the page of the notebook jobs costs the API server, on a metadata database that `airflow db migrate` made.

``make bench-ui`` takes a minute or two on each of SQLite and PostgreSQL, and prints PostgreSQL's plan of the statement
that finds the jobs. Beside the jobs there are earlier tries of them, and task instances and XComs
of other tasks. Airflow's sign-in is left out: a dependency override says who the person is, and which DAGs are theirs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from tests.support import keeper
from tests.support.services import PostgreSQL

DAGS, TASKS = 20, 2  # of notebooks; the tasks are those of each DAG
OTHER_DAGS = 100
QUERIES = {
    "first page": "",
    "middle page": "page={middle}",
    "last page": "page={last}",
    "beyond the last page": "page=999999999",
    "DAG": "dag_id=dag_3",
    "task": "task_id=notebook_1",
    "state": "state=JOB_STATE_FAILED",
    "text": "text=job-77",
    "time": "since=2026-01-02&until=2026-01-04",
}


def main() -> None:
    keeper.start()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.listing", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--earlier", type=int, default=2_000, help="earlier tries of them (default: %(default)s)")
    parser.add_argument("--others", type=int, default=200_000, help="other task instances (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=30, help="requests of each kind (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="default: %(default)s")
    options = parser.parse_args()
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        url = f"sqlite:///{home}/airflow.db"
        if options.database == "postgresql":
            server = stack.enter_context(PostgreSQL())
            url = server.create_database("airflow")
        os.environ.update(
            {
                "AIRFLOW_HOME": home,
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            }
        )
        subprocess.run(["airflow", "db", "migrate"], check=True, capture_output=True)
        fill(url, options)
        print(f"{options.database}: {options.jobs:,} jobs, {options.earlier:,} earlier tries, ", end="")
        print(f"{options.others:,} other task instances\n")
        print(f"{'':24}{'median ms':>10}{'p95 ms':>10}{'CPU ms':>10}{'queries':>9}{'kB':>7}")
        for row in measured(options):
            print("{name:24}{median:10.0f}{p95:10.0f}{cpu:10.0f}{queries:9}{size:7.0f}".format(**row))


def fill(url: str, options: argparse.Namespace) -> None:
    """Put the rows into the database; the numbers are drawn, the same ones each time."""
    from tests.support.metadata import START, Rows, ended, metadata_engine, record

    draw, rows = random.Random(1), Rows()
    for number in range(options.jobs):
        identity = (f"dag_{number % DAGS}", f"notebook_{number // DAGS % TASKS}", f"run_{number // (DAGS * TASKS)}")
        start, goes_on = START + timedelta(minutes=number), number >= options.jobs - 5
        try_number = 2 if number < options.earlier else 1
        state = draw.choice(["JOB_STATE_SUCCEEDED"] * 9 + ["JOB_STATE_FAILED"])
        told = record(f"job-{number}", try_number=try_number, **({} if goes_on else ended(state, "m" * 100)))
        task_state = "deferred" if goes_on else "success" if state.endswith("SUCCEEDED") else "failed"
        seconds = None if goes_on else draw.uniform(60, 600)
        rows.task_instance(*identity, try_number=try_number, state=task_state, start=start, seconds=seconds, told=told)
        if try_number == 2:
            rows.earlier_try(*identity, start=start - timedelta(minutes=10))
    for number in range(options.others):
        dag_id = f"dag_{number % DAGS}" if number % 10 == 0 else f"other_{number % OTHER_DAGS}"
        rows.task_instance(dag_id, f"task_{number % 7}", f"run_{number // 700}", map_index=number, told=[1], key="xcom")
    engine = metadata_engine(url)
    with engine.connect() as connection:
        rows.insert(connection)
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")  # as autovacuum does within a minute
    engine.dispose()


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask the route for each kind of page, by turns, so that what else the machine does meets all alike."""
    from airflow import settings
    from fastapi.testclient import TestClient
    from sqlalchemy import event

    from airflow_provider_nbjob.plugins.notebook_jobs.app import app, get_user
    from airflow_provider_nbjob.plugins.notebook_jobs.authorization import DagReader, ReadableDags, dag_reader
    from airflow_provider_nbjob.plugins.notebook_jobs.queries import PAGE_SIZE

    dag_ids = {f"dag_{n}" for n in range(DAGS)} | {f"other_{n}" for n in range(OTHER_DAGS)}

    class Everybody(DagReader):
        def narrow(self, dag_ids: set[str]) -> ReadableDags:
            return ReadableDags(dag_ids, dag_ids)

    app.dependency_overrides.update({get_user: lambda: None, dag_reader: lambda: Everybody(None, dag_ids)})
    queries: list[str] = []
    statements: dict[str, Any] = {}

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        queries.append(statement)
        statements[statement] = parameters

    event.listen(settings.engine, "before_cursor_execute", note)
    last = -(-(options.jobs + options.earlier) // PAGE_SIZE)
    client = TestClient(app)
    taken: dict[str, list[tuple[float, float, int, int]]] = {name: [] for name in QUERIES}
    for repeat in range(options.repeat + 1):
        for name, query in QUERIES.items():
            queries.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            answer = client.get(f"/?{query.format(middle=last // 2, last=last)}")
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            answer.raise_for_status()
            if repeat:  # the first one imports and compiles
                taken[name].append((*spent, len([sql for sql in queries if "FROM" in sql]), len(answer.content)))
    if settings.engine.dialect.name == "postgresql":
        longest = max(statements, key=len)
        with settings.engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {longest}", statements[longest])
            print("\n".join(line for (line,) in plan), "\n")
    return [_row(name, asked) for name, asked in taken.items()]


def _row(name: str, asked: list[tuple[float, float, int, int]]) -> dict[str, Any]:
    wall, cpu, queries, sizes = zip(*asked, strict=True)
    p95 = sorted(wall)[min(len(wall) - 1, round(0.95 * len(wall)))]
    return {
        "name": name,
        "median": 1000 * statistics.median(wall),
        "p95": 1000 * p95,
        "cpu": 1000 * statistics.median(cpu),
        "queries": max(queries),
        "size": max(sizes) / 1000,
    }


if __name__ == "__main__":
    main()
