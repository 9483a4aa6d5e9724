"""`make ui`: serve an Airflow with finished runs of the example DAGs on the emulator, with no cloud at all.

It prints the address, the user and the password, and runs until Ctrl-C. At the end, also on failure, it stops all that
it started. It writes below `.ui/` of the checkout only; each start removes the files of the one before.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
from processes import (
    BUCKET,
    CHECKOUT,
    Processes,
    examples_environment,
    free_port,
    migrate,
    read_exports,
    say,
    settings_of_components,
    start_emulator,
)

UI = CHECKOUT / ".ui"
PORT = 8080
USER = "admin"
COMPONENTS = {
    "api-server": ["--host", "127.0.0.1", "--workers", "1"],
    # Airflow's servers of logs would listen on all interfaces; on one machine Airflow reads the files without them.
    "scheduler": ["--skip-serve-logs"],
    "dag-processor": [],
    "triggerer": ["--skip-serve-logs"],
}
# The states of a task that are shown; in the others Airflow is about to do something.
SHOWN = ("running", "deferred", "up_for_retry", "success", "failed", "upstream_failed")


class Run(NamedTuple):
    """A run of an example DAG, and the state in which it should end."""

    dag_id: str
    run_id: str
    task: str
    conf: dict[str, str]
    state: str


RUNS = (
    Run("example_notebook_job", "daily_report", "run_notebook", {}, "success"),
    Run("example_notebook_job", "failing", "run_notebook", {"notebook": "failing.ipynb"}, "failed"),
    Run("example_mapped_notebooks", "two_days", "notebooks/mapped/0", {}, "success"),
)


def main() -> int:
    """Serve until interrupted, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, help=f"where Airflow listens; {PORT} if that is free, else a free one")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lock = begin_afresh()
    try:
        with Processes() as processes:
            try:
                serve(processes, options.port or free_port(PORT))
            finally:
                say("stopping")
    except KeyboardInterrupt:
        say("interrupted")
    os.close(lock)
    return 130


def begin_afresh() -> int:
    """Remove the files of an earlier start; return the descriptor of a lock that keeps a second start out."""
    UI.mkdir(exist_ok=True)
    lock = os.open(UI, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"It runs already, in {UI}") from None
    for name in ("airflow", "emulator"):
        shutil.rmtree(UI / name, ignore_errors=True)
    return lock


def serve(processes: Processes, port: int) -> None:
    """Start everything, make the runs, and serve, until interrupted."""
    started = time.monotonic()
    address = f"http://127.0.0.1:{port}"
    emulator = start_emulator(processes, UI)
    environment = environment_of(address, read_exports(emulator, UI))
    add_dataform_repository()
    migrate(processes, environment, UI)
    say("starting Airflow")
    needed = {"emulator": emulator}
    for component, arguments in COMPONENTS.items():
        needed[component] = start(processes, component, arguments, environment)
    # Without trust_env: a proxy of the environment does not reach this machine.
    with httpx.Client(base_url=address, timeout=120, trust_env=False) as api:
        wait_until(lambda: is_healthy(api), needed, "Airflow to be healthy")
        password = sign_in(api)
        make_runs(api, needed)
    say(f"ready after {time.monotonic() - started:.0f} s")
    show(address, password)
    say("Ctrl-C stops it")
    while True:
        time.sleep(1)
        check(needed)


def environment_of(address: str, exports: dict[str, str]) -> dict[str, str]:
    """Return the environment of Airflow's processes."""
    return {
        **examples_environment(exports, UI),
        **settings_of_components(address),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
    }


def add_dataform_repository() -> None:
    """Make the repository that `example_notebook_sources` reads, for users who run that example too."""
    repository = UI / "emulator" / "dataform" / "data-quality"
    repository.mkdir(parents=True)
    shutil.copy(CHECKOUT / "example_dags" / "notebooks" / "data_quality.ipynb", repository / "content.ipynb")


def start(
    processes: Processes, component: str, arguments: list[str], environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a component of Airflow."""
    with (UI / f"{component}.log").open("w") as log:
        return processes.start(
            ["airflow", component, *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def check(needed: dict[str, subprocess.Popen[str]]) -> None:
    """Exit if a process has ended that should serve."""
    for name, process in needed.items():
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with status {process.returncode}; see {UI / name}.log")


def wait_until(condition: Callable[[], bool], needed: dict[str, subprocess.Popen[str]], what: str) -> None:
    """Wait until a condition holds, five minutes at most; exit if one of the needed processes ends.

    On a busy machine Airflow may not answer in time; the condition is then checked again.
    """
    end_time = time.monotonic() + 300
    while not _holds(condition):
        check(needed)
        if time.monotonic() > end_time:
            raise SystemExit(f"Waited five minutes for {what}; the logs are in {UI}")
        time.sleep(1)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except httpx.TransportError:
        return False


# --- through Airflow's REST API ---


def is_healthy(api: httpx.Client) -> bool:
    """Return whether all parts of Airflow are healthy."""
    try:
        health = api.get("/api/v2/monitor/health").raise_for_status().json()
    except httpx.HTTPError:
        return False
    return all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor"))


def sign_in(api: httpx.Client) -> str:
    """Sign `api` in as the user, and return the password that Airflow made."""
    password = str(json.loads((UI / "airflow" / "simple_auth_manager_passwords.json.generated").read_text())[USER])
    answer = api.post("/auth/token", json={"username": USER, "password": password}).raise_for_status()
    api.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
    return password


def make_runs(api: httpx.Client, needed: dict[str, subprocess.Popen[str]]) -> None:
    """Run the examples, and show the states of their tasks, and the runs that did not end as planned."""
    for run in RUNS:
        path = f"/api/v2/dags/{run.dag_id}"
        wait_until(lambda path=path: api.get(path).is_success, needed, f"DAG {run.dag_id}")
        say(f"run {run.run_id} of {run.dag_id}")
        body = {"dag_run_id": run.run_id, "logical_date": None, "conf": run.conf}
        api.post(f"{path}/dagRuns", json=body).raise_for_status()
    # Not before all runs are made: on SQLite a request can lose its lock to a task that starts (Airflow 3.3).
    api.patch("/api/v2/dags", params={"dag_id_pattern": "~"}, json={"is_paused": False}).raise_for_status()
    shown: dict[tuple[Any, ...], str] = {}

    def have_ended() -> bool:
        show_tasks(api, shown)
        return all(state_of(api, run) in ("success", "failed") for run in RUNS)

    wait_until(have_ended, needed, "the runs to end")
    show_tasks(api, shown)
    for run in RUNS:
        if state_of(api, run) != run.state:
            say(f"NOT AS PLANNED: {run.dag_id}, {run.run_id}, did not end as {run.state}")


def state_of(api: httpx.Client, run: Run) -> str:
    """Return the state of a run."""
    return str(api.get(f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}").raise_for_status().json()["state"])


def show_tasks(api: httpx.Client, shown: dict[tuple[Any, ...], str]) -> None:
    """Print the tasks whose state has changed since it was shown."""
    answer = api.get("/api/v2/dags/~/dagRuns/~/taskInstances").raise_for_status()
    for ti in answer.json()["task_instances"]:
        key = tuple(ti[part] for part in ("dag_run_id", "task_id", "map_index"))
        if ti["state"] in SHOWN and shown.get(key) != ti["state"]:
            shown[key] = ti["state"]
            index = f"[{key[2]}]" if key[2] >= 0 else ""
            print(f"   {key[0]}: {key[1]}{index} is {ti['state']}", flush=True)


def show(address: str, password: str) -> None:
    """Print the addresses, the user and the password."""
    print(f"\n   address   {address}\n   user      {USER}\n   password  {password}\n")
    for dag_id, run_id, task, _, _ in RUNS:
        print(f"   {address}/dags/{dag_id}/runs/{run_id}/tasks/{task}")
    print(f"\n   executed notebooks are below {UI / 'emulator' / 'cloudstorage' / BUCKET}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
