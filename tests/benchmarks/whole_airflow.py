"""Measure what a task costs a whole Airflow, side by side with Airflow's floor and with other providers' operators.

``python -m tests.benchmarks.whole_airflow --tasks 40 --kinds empty notebook-deferrable`` measures a part. One Airflow,
of the processes of a small machine with LocalExecutor, runs a DAG of mapped tasks of each kind, one after the other, on
services whose jobs last as long as each other's. CPU is that of Airflow's processes above what they take while nothing
is asked of them, which is measured before each kind. The figures are printed, and written as JSON and as text.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.kinds import SERVICE_VARIABLE
from tests.benchmarks.tables import Rows
from tests.benchmarks.whole_kinds import FEW, KINDS, SECONDS_AT_LEAST, SECONDS_VARIABLE, TASKS_VARIABLE
from tests.benchmarks.whole_report import report
from tests.benchmarks.whole_run import Bench
from tests.support import keeper
from tests.support.airflow_processes import Airflow
from tests.support.deployments import SMALL, Deployment
from tests.support.service_process import Service
from tests.support.services import PostgreSQL

HERE = Path(__file__).parent
OUTPUT = HERE.parent / "output" / "whole_airflow.json"
PACKAGES = ("apache-airflow", "apache-airflow-providers-google", "apache-airflow-providers-databricks")


def main() -> None:
    keeper.start()
    parser = arguments()
    options = parser.parse_args()
    if options.seconds_of_job < SECONDS_AT_LEAST:
        parser.error(
            f"--seconds-of-job must be {SECONDS_AT_LEAST:g} at least: Airflow fails a task that resumes sooner"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbjob-bench-")))
        os.environ["AIRFLOW_HOME"] = str(folder / "unused")  # of this process, which imports our operator
        kinds = available(options.kinds)
        services = Service("tests.benchmarks.job_services")
        stack.callback(services.close)
        database = stack.enter_context(PostgreSQL()) if options.database == "postgresql" else None
        exports = environment(services, options)
        print("Airflow starts ...", flush=True)
        airflow = Airflow(folder / "home", dags_of(kinds, folder), exports, deployment=deployment_on(database))
        pids = {name: process.pid for name, process in stack.enter_context(airflow).processes.items()}
        if database and database.process:
            pids["database"] = database.process.pid
        bench = Bench(airflow, pids, services, options)
        try:
            bench.warm_up(kinds)
            bench.run(kinds)
        finally:  # what was measured took long
            write(options, rows := bench.rows())
    if len(rows) < len(kinds) * len(options.tasks):
        sys.exit("Not all measurements succeeded.")


def arguments() -> argparse.ArgumentParser:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.whole_airflow", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[40, 200], metavar="N", help="default: 40 and 200")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs (default: %(default)s)")
    parser.add_argument("--seconds-of-job", type=float, default=40.0, metavar="S", help="default: %(default)s")
    parser.add_argument("--seconds-idle", type=float, default=20.0, metavar="S", help="default: %(default)s")
    parser.add_argument("--slots", type=int, default=8, help="tasks that run at once (default: %(default)s)")
    parser.add_argument(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="default: %(default)s; postgresql needs what `make production` installs",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes (default: %(default)s)")
    return parser


def available(kinds: list[str]) -> list[str]:
    """Return the kinds that can be measured; say of each other one why it cannot."""
    lacking = {kind: lacks for kind in kinds if (lacks := KINDS[kind].lacks())}
    for kind, lacks in lacking.items():
        print(f"{kind} is left out: {lacks}")
    return [kind for kind in KINDS if kind in kinds and kind not in lacking]


def environment(services: Service, options: argparse.Namespace) -> dict[str, str]:
    """Return the settings of Airflow: those of a new installation, where `Airflow` has others for the tests."""
    http = f"127.0.0.1:{services.told['http_port']}"
    google = {"conn_type": "google_cloud_platform", "extra": {"project": "bench"}}
    host, _, port = http.partition(":")
    databricks = {"conn_type": "databricks", "host": host, "port": int(port), "schema": "http", "password": "token"}
    return {
        SERVICE_VARIABLE: services.address,
        TASKS_VARIABLE: " ".join(map(str, dict.fromkeys([FEW, *options.tasks]))),
        SECONDS_VARIABLE: str(options.seconds_of_job),
        "STORAGE_EMULATOR_HOST": f"http://{http}",
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(google),
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps(databricks),
        "AIRFLOW__CORE__PARALLELISM": str(options.slots),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
        # No DAG changes: parsing is measured by itself. The Google provider's operators take long to import.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "86400",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE": "False",  # else a file counts only if it has the word "dag"
    }


def dags_of(kinds: list[str], folder: Path) -> Path:
    """Return a folder with the DAGs of some kinds."""
    dags = folder / "dags"
    dags.mkdir()
    for file in {"bare.py", *(KINDS[kind].file for kind in kinds)}:
        shutil.copy(HERE / "dags" / file, dags)
    return dags


def deployment_on(database: PostgreSQL | None) -> Deployment:
    """Return the processes of a small machine, on SQLite unless a database is given."""
    if database is None:
        return SMALL
    return replace(SMALL, settings={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.create_database("airflow")})


def write(options: argparse.Namespace, rows: Rows) -> None:
    """Print the tables, and write them beside the JSON."""
    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "database": options.database,
        "slots": options.slots,
        "seconds_of_job": options.seconds_of_job,
        "versions": {package: found for package in PACKAGES if (found := _version(package))},
    }
    text = report(rows)
    print(f"\n{text}\n", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    options.output.with_suffix(".txt").write_text(f"{text}\n")
    print(f"{options.output}\n{options.output.with_suffix('.txt')}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
