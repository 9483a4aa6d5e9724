"""A real Airflow as separate processes: those of a small machine, on SQLite, or of another deployment.

Each process leads a process group of its own, so that a test can stop, kill or continue one by signal.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt, wait_fixed

from scripts.processes import airflow_environment, free_port, settings_of_components
from tests.support import component
from tests.support.cpu import cpu_seconds
from tests.support.deployments import SMALL, Deployment
from tests.support.fixtures import DidNotStart
from tests.support.paths import CHECKOUT
from tests.support.patience import patient, wait_until

ENDED = ("success", "failed")


def _is_locked_out(answer: httpx.Response) -> bool:
    """Whether the API server did not get the lock of its database, and so did nothing.

    Airflow 3.3 logs what somebody does by a commit that blocks its event loop (`log_action` in
    `airflow/api_fastapi/logging/decorators.py`). A task that starts in that moment holds SQLite's one lock until the
    loop goes on, so the commit fails after 5 s. Other databases lock rows.
    """
    return answer.status_code == 500 and "Database error" in answer.text


class Airflow:
    """A running Airflow.

    :param home: its AIRFLOW_HOME, which must not exist yet
    :param dags: its folder of DAGs
    :param exports: further variables: those that lead to the emulator, and settings
    :param users: the role of each user, the first one an administrator; without any, everybody is one
    :param deployment: the processes that it consists of
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        exports: dict[str, str],
        users: dict[str, str] | None = None,
        deployment: Deployment = SMALL,
    ) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.deployment = deployment
        self._dags = dags
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.passwords = {user: secrets.token_hex(8) for user in users or {}}
        self.environment = self._environment(dags, {**self._users(users or {}), **exports})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._api = httpx.Client(base_url=self.url, timeout=patient(30))

    def _users(self, users: dict[str, str]) -> dict[str, str]:
        if not users:
            return {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
        file = self.home / "passwords.json"
        file.write_text(json.dumps(self.passwords))
        return {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(file),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in users.items()),
        }

    def _environment(self, dags: Path, exports: dict[str, str]) -> dict[str, str]:
        return {
            **airflow_environment(self.home, dags),
            **settings_of_components(self.url),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{component.__name__}.{component.name.__name__}",
            # No DAG changes while a test runs: parsing each again takes a twentieth of a core, all the time. One whose
            # parsing was given up on a busy machine has another chance before `is_parsed` gives up.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(round(patient(30))),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": str(round(patient(15))),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            # Airflow 3.3.2 fails a task whose start is answered late five times: by default after 5 s each.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": str(patient(30)),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH")))),
            **self.deployment.settings,
            **exports,
        }

    def _environment_of(self, name: str) -> dict[str, str]:
        """Return the environment of a process, whose folders are made where it has folders of its own."""
        own = {**self.environment, component.VARIABLE: name}
        if self.deployment.are_apart:
            home = self.home / name
            if not home.exists():
                shutil.copytree(self._dags, home / "dags")
            own |= {"AIRFLOW_HOME": str(home), "HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags")}
        return own

    def __enter__(self) -> Airflow:
        try:
            self.command("db", "migrate")
            for name in self.deployment.components:
                self.start(name)
            self.wait_until_healthy()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, AssertionError):
                raise DidNotStart("Airflow", sorted(self.home.glob("*.log"))) from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name, process in self.processes.items():  # all at once: each may take a while to end
            if process.poll() is None:
                self.signal(name, signal.SIGTERM)
        for name in reversed(list(self.processes)):
            self.stop(name)
        self._api.close()

    def command(self, *arguments: str) -> str:
        """Run `airflow` with arguments; what it prints. Its exit status must be 0."""
        run = subprocess.run(["airflow", *arguments], env=self.environment, capture_output=True, text=True)
        assert run.returncode == 0, f"airflow {' '.join(arguments)}:\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
        return run.stdout

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `airflow` with arguments, as a terminal does; what it prints is piped."""
        return subprocess.Popen(
            ["airflow", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start(self, name: str, arguments: tuple[str, ...] = (), settings: dict[str, str] | None = None) -> None:
        """Start a process.

        :param name: of the deployment's, or of one more
        :param arguments: of `airflow`, for one more
        :param settings: of its own
        """
        environment = self._environment_of(name)
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["airflow", *(arguments or self.deployment.components[name])],
                env={**environment, **(settings or {})},
                cwd=environment["AIRFLOW_HOME"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_what_has_ended(self) -> None:
        """Start each process again that has ended by itself: one test's fault is not to fail the tests after it."""
        for name in self.deployment.components:
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.start(name)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a component and what it started; by SIGKILL if it does not end in time."""
        process = self.processes.pop(name)
        group = process.pid
        if process.poll() is None:
            os.killpg(group, how)
            try:
                process.wait(patient(15))
            except subprocess.TimeoutExpired:
                os.killpg(group, signal.SIGKILL)
                process.wait()

    def signal(self, name: str, what: signal.Signals) -> None:
        """Send a signal to a component and what it started."""
        os.killpg(self.processes[name].pid, what)

    def stall(self, name: str) -> None:
        """Have a component stand still, until `resume`.

        Where Airflow is on SQLite, it does so in a moment in which it does not hold the one lock: else all of Airflow
        would stand still.
        """

        def stands_still() -> bool:
            self.signal(name, signal.SIGSTOP)
            if not self._is_locked():
                return True
            self.signal(name, signal.SIGCONT)
            return False

        wait_until(stands_still, timeout=60, what=f"the {name} without the lock of the database")

    def resume(self, name: str) -> None:
        """Have a component go on that stands still, or goes on anyway."""
        self.signal(name, signal.SIGCONT)

    def _is_locked(self) -> bool:
        if not (self.home / "airflow.db").exists():
            return False
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=patient(1), isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            database.execute("ROLLBACK")
            return False

    def wait_until_healthy(self) -> None:
        """Wait until the API server answers, and knows of a heartbeat of each other kind of process."""
        wait_until(self._is_healthy, timeout=120, what="a healthy Airflow", interval=1)

    def _is_healthy(self) -> bool:
        try:
            health = self._api.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError:
            return False
        wanted = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health[part]["status"] == "healthy" for part in wanted)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each process and of all that it started and that still runs or was waited for."""
        return {name: cpu_seconds(process.pid) for name, process in self.processes.items()}

    # --- through the REST API ---

    def token(self, user: str | None = None) -> str:
        """The token by which the API knows a user; without users, of whom everybody is."""
        if user is None:
            answer = self._api.get("/auth/token")
        else:
            answer = self._api.post("/auth/token", json={"username": user, "password": self.passwords[user]})
        return str(answer.raise_for_status().json()["access_token"])

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request as an administrator, and return the JSON of the answer."""
        if "authorization" not in self._api.headers:
            self._api.headers["authorization"] = f"Bearer {self.token(next(iter(self.passwords), None))}"
        answer = self._send(method, f"/api/v2/{path}", **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, again if the database was locked or, unless it would do something twice, if none answered."""
        no_answer = retry_if_exception_type(() if method == "POST" else httpx.TransportError)
        retrying = Retrying(
            retry=retry_if_result(_is_locked_out) | no_answer,
            stop=stop_after_attempt(4),
            wait=wait_fixed(1),
            retry_error_callback=lambda state: state.outcome.result(),  # the last answer, or what was raised last
        )
        return retrying(self._api.request, method, path, **options)

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, **body: Any) -> str:
        """Start a run of a DAG, as soon as the DAG is there; the run's id."""
        run_id = self.create_run(dag_id, conf, **body)
        self.unpause(dag_id)
        return run_id

    def create_run(self, dag_id: str, conf: dict[str, Any] | None = None, **body: Any) -> str:
        """Make a run of a DAG, as soon as the DAG is there, which starts once the DAG is not paused; the run's id."""

        def is_parsed() -> bool:
            return self._send("GET", f"/api/v2/dags/{dag_id}").is_success

        self.request("GET", "version")
        wait_until(is_parsed, timeout=90, what=f"DAG {dag_id} parsed", interval=1)
        run = {"dag_run_id": f"test__{uuid.uuid4().hex}", "logical_date": None, "conf": conf or {}, **body}
        path = f"dags/{dag_id}/dagRuns"
        try:
            self.request("POST", path, json=run)
        except httpx.TransportError:  # the id tells whether the run was made all the same
            if not self._send("GET", f"/api/v2/{path}/{quote(run['dag_run_id'], safe='')}").is_success:
                self.request("POST", path, json=run)
        return str(run["dag_run_id"])

    def unpause(self, pattern: str) -> None:
        """Have the DAGs start their runs whose ids match a pattern of SQL's LIKE."""
        self.request("PATCH", "dags", params={"dag_id_pattern": pattern}, json={"is_paused": False})

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 180) -> str:
        """Wait until a run has ended; its state."""
        path = f"dags/{dag_id}/dagRuns/{run_id}"

        def ended() -> str | None:
            state = self.request("GET", path)["state"]
            return state if state in ENDED else None

        return str(wait_until(ended, timeout=timeout, what=f"the end of {path}", interval=1))

    def give_up(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed, unless it has ended."""
        path = f"dags/{dag_id}/dagRuns/{run_id}"
        if self.request("GET", path)["state"] not in ENDED:
            self.request("PATCH", path, json={"state": "failed"})

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        found: list[dict[str, Any]] = []
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        while True:
            answer = self.request("GET", path, params={"limit": 100, "offset": len(found), "order_by": "id"})
            found += answer["task_instances"]
            if len(found) >= answer["total_entries"] or not answer["task_instances"]:
                return found

    def count(self, dag_id: str, run_id: str, *states: str) -> int:
        """Return how many of a run's task instances are in one of some states."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return int(self.request("GET", path, params={"limit": 1, "state": states})["total_entries"])

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """A task instance that is not mapped."""
        return dict(self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"))

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance as failed or success, as a person does."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.request("PATCH", path, json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task instance, as a person does."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self.request("POST", f"dags/{dag_id}/clearTaskInstances", json={**body, "reset_dag_runs": True})

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """The value of an XCom."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.request("GET", path, params={"map_index": map_index, "deserialize": True})["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """The log of a try, the triggerer's part included."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.request("GET", path, params={"map_index": map_index, "full_content": True})["content"]
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in content)
