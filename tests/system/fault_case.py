"""What the fault matrix needs: a world in which things fail on demand, and a case that counts the jobs."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import psutil

from airflow_provider_nbjob.job import JobState
from tests.support.airflow_processes import Airflow
from tests.support.deployments import SMALL, Deployment
from tests.support.emulator_process import EmulatorProcess
from tests.support.fault_table import Fault
from tests.support.patience import patient, wait_until
from tests.support.relay import Relay

NOTEBOOKS = {
    "quick": "print('done')",
    "failing": "raise ValueError('as asked')",
    "sleeping": "import time; time.sleep(3600)",
    # ends once the gate is opened: so a test can act while it waits, however long that takes
    "waiting": f"""
import os, pathlib, time
end = time.monotonic() + {patient(240)}
while not pathlib.Path(os.environ["FAULTS_GATE"]).exists():
    assert time.monotonic() < end, "nobody opened the gate"
    time.sleep(0.2)
""",
}
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}


DAGS = Path(__file__).parent / "dags"


class World:
    """Airflow, the emulator, and the network between them: one way to the API, and one to the buckets.

    :param folder: for all that they write
    :param waiting: number of tasks of the DAG `waiting`
    :param many: number of tasks of the DAG `many`
    :param deployment: the processes of its Airflow
    :param dags: folders of DAGs beside those of the fault matrix
    """

    def __init__(
        self,
        folder: Path,
        waiting: int,
        many: int,
        *,
        deployment: Deployment = SMALL,
        dags: Iterable[Path] = (),
    ) -> None:
        self.waiting, self.many = waiting, many
        self.gate = folder / "gate"
        self.retries = folder / "retries"  # of the DAG `edited`, which reads them
        self.retries.write_text("2")
        notebooks = folder / "notebooks"
        notebooks.mkdir()
        for name, code in NOTEBOOKS.items():
            nbformat.write(
                nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), notebooks / f"{name}.ipynb"
            )
        self.emulator = EmulatorProcess(
            folder / "emulator",
            *("--max-concurrent", "24", "--cleanup-delay", "0.2", "--upload", f"{notebooks}=gs://faults/notebooks"),
            *("--env", "FAULTS_GATE"),
            environment={"FAULTS_GATE": str(self.gate)},
        )
        self.network = Relay(self.emulator.exports["NBJOB_EMULATOR_HOST"])
        storage = urlsplit(self.emulator.exports["STORAGE_EMULATOR_HOST"])
        self.storage = Relay(storage.netloc)
        led_here = {
            **self.emulator.exports,
            "NBJOB_EMULATOR_HOST": self.network.address,
            "STORAGE_EMULATOR_HOST": storage._replace(netloc=self.storage.address).geturl(),
        }
        counts = {"FAULTS_WAITING": str(waiting), "FAULTS_MANY": str(many), "FAULTS_RETRIES": str(self.retries)}
        self._folder, self._exports = folder, {**SETTINGS, **led_here, **counts}
        self._dags = folder / "dags"
        for source in (DAGS, *dags):
            shutil.copytree(source, self._dags, dirs_exist_ok=True)
        self.airflow = Airflow(folder / "home", self._dags, self._exports, deployment=deployment)

    @cached_property
    def idle_airflow(self) -> Airflow:
        """One of which no process runs: `airflow dags test` runs a DAG itself, and a scheduler would run it too."""
        idle = Airflow(self._folder / "idle", self._dags, self._exports)
        idle.command("db", "migrate")
        return idle

    def __enter__(self) -> World:
        try:
            self.airflow.__enter__()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.airflow.__exit__()
        self.stop()

    def stop(self) -> None:
        self.network.down()
        self.storage.down()
        self.emulator.stop()


class Case:
    """One case of the matrix: runs a DAG, and knows the jobs that came of it.

    :param told: takes the row of the matrix that says how it went
    """

    def __init__(self, world: World, told: Callable[[Fault], None]) -> None:
        self.world, self.airflow, self.emulator = world, world.airflow, world.emulator
        self._told = told
        self._earlier = set(world.emulator.submitted())
        self._started = time.monotonic()
        self.dag_id = self.run_id = ""

    def start(self, dag_id: str, notebook: str, run_id: str | None = None) -> None:
        """Start a run."""
        self.dag_id = dag_id
        body = {"dag_run_id": run_id} if run_id else {}
        self.run_id = self.airflow.trigger(dag_id, {"notebook": notebook}, **body)

    def start_beside(self, notebook: str) -> str:
        """Start another deferred task, wait until its trigger is there, and return the id of its run.

        SQLite gives a new trigger the id of the newest one, if that is gone; a triggerer then takes them for one. As
        long as this one waits, it is the newest.
        """
        other, running = self.airflow.trigger("deferred", {"notebook": notebook}), self.running()
        wait_until(lambda: self.running() > running, timeout=120, what="another job")
        wait_until(
            lambda: self.airflow.task_instance("deferred", other, "job")["triggerer_job"] is not None,
            timeout=120,
            what="another trigger",
        )
        return other

    def set_connection(self, endpoint: str) -> None:
        """Have the connection `faults` lead to an endpoint, as a person does who makes or edits it."""
        self.remove_connection()
        extra = {"project": "emulator-project", "api_endpoint": f"http://{endpoint}"}
        body = {"connection_id": "faults", "conn_type": "google_cloud_platform", "extra": json.dumps(extra)}
        self.airflow.request("POST", "connections", json=body)

    def remove_connection(self) -> None:
        """Have Airflow know no connection `faults`: an outage of a secrets backend looks the same to a trigger."""
        known = self.airflow.request("GET", "connections", params={"connection_id_pattern": "faults"})["connections"]
        if any(connection["connection_id"] == "faults" for connection in known):
            self.airflow.request("DELETE", "connections/faults")

    def calls(self, rpc: str) -> int:
        """How often an rpc was called since the emulator's counters were reset."""
        return self.emulator.calls().get(rpc, 0)

    def open_gate(self) -> None:
        """Have the notebooks that wait go on to their end."""
        self.world.gate.touch()

    def created(self) -> list[str]:
        """The ids of the jobs submitted since the case began, the first one first."""
        return [job_id for job_id in self.emulator.submitted() if job_id not in self._earlier]

    def active(self) -> list[str]:
        """Those of them that hold a machine, or wait for one."""
        ids = {job["name"].rpartition("/")[2]: job for job in self.emulator.jobs()}
        return [i for i in self.created() if i in ids and JobState(ids[i]["jobState"]).is_active]

    def job_names(self) -> dict[str, str]:
        return {job["name"].rpartition("/")[2]: job["name"] for job in self.emulator.jobs()}

    def states(self) -> list[str]:
        """The states of the run's task instances."""
        return [ti["state"] for ti in self.airflow.task_instances(self.dag_id, self.run_id)]

    def task_instance(self) -> dict[str, Any]:
        return self.airflow.task_instance(self.dag_id, self.run_id, "job")

    @property
    def starts_in_triggerer(self) -> bool:
        """Return whether no worker starts the tasks of the run."""
        return "from_trigger" in self.dag_id

    def wait_until_deferred(self, count: int = 1) -> None:
        """Wait until so many tasks are deferred, their triggers wait, and their jobs run: these may end now."""
        wait_until(lambda: self.states().count("deferred") == count, timeout=240, what=f"{count} deferred", interval=1)
        wait_until(lambda: self.running() >= count, timeout=120, what=f"{count} running", interval=1)
        self.wait_until_handed_over(set())
        self.wait_for_executor()

    def triggerers(self) -> dict[int, str]:
        """The triggerers that the run's tasks are given to: the name of each one's process, by its id."""
        return _triggerers(self.airflow.task_instances(self.dag_id, self.run_id))

    def triggerer(self) -> tuple[str, set[int]]:
        """One of them, as the name of its process, and the ids by which Airflow knows that."""
        found = self.triggerers()
        name = min(found.values())
        return name, {id_ for id_, process in found.items() if process == name}

    @contextmanager
    def another_triggerer(self) -> Iterator[None]:
        """Have a second triggerer, if there is only one."""
        names = self.airflow.deployment.names("triggerer")
        if len(names) > 1:
            yield
            return
        self.airflow.start("second triggerer", (*self.airflow.deployment.components[names[0]], "--skip-serve-logs"))
        try:
            yield
        finally:
            self.airflow.stop("second triggerer")

    def wait_until_handed_over(self, before: set[int]) -> None:
        """Wait until triggerers other than those before look at all the jobs."""

        def looked_at() -> bool:
            tis = self.airflow.task_instances(self.dag_id, self.run_id)
            given = all(ti["triggerer_job"] for ti in tis) and not set(_triggerers(tis)) & before
            return given and all(map(self._has_looked, tis))

        wait_until(looked_at, timeout=120, what="triggers at work", interval=1)

    def wait_until_watched(self) -> None:
        """Wait until the trigger of the task `job`, beside others that do not wait, has looked at its job."""

        def is_watched() -> bool:
            ti = self.task_instance()
            return ti["triggerer_job"] is not None and self._has_looked(ti)

        wait_until(is_watched, timeout=180, what="a trigger at work", interval=1)

    def _has_looked(self, ti: dict[str, Any]) -> bool:
        """Whether the trigger that a task was given to has logged the state of its job."""
        parts = [f"dag_id={self.dag_id}", f"run_id={self.run_id}", f"task_id={ti['task_id']}"]
        mapped = [f"map_index={ti['map_index']}"] if ti["map_index"] >= 0 else []
        log = f"attempt={ti['try_number']}.log.trigger.{ti['triggerer_job']['id']}.log"
        path = self.airflow.home.joinpath("logs", *parts, *mapped, log)
        return path.exists() and " is JOB_STATE_" in path.read_text()

    def running(self) -> int:
        states = {job["name"].rpartition("/")[2]: job["jobState"] for job in self.emulator.jobs()}
        return sum(states.get(job_id) == JobState.RUNNING for job_id in self.created())

    def wait_for_executor(self, processes: int = 1) -> None:
        """Wait until a scheduler took note that so many processes of each task's current try have ended.

        Airflow 3.3.2 takes a note that comes late for one on the process that it started since for the same try, or
        for a task instance of the same name, and fails that: so a job that ends right after its task was deferred
        fails where the scheduler is slow.
        """
        if self.starts_in_triggerer:
            return
        logs = [self.airflow.home / f"{name}.log" for name in self.airflow.deployment.names("scheduler")]

        def noted() -> bool:
            ended = [
                line for log in logs for line in log.read_text().splitlines() if " event with state success " in line
            ]
            tis = self.airflow.task_instances(self.dag_id, self.run_id)
            return all(sum(_key(ti) in line for line in ended) >= processes for ti in tis)

        wait_until(noted, timeout=60, what="the executor's events", interval=0.5)

    def wait_for_run(self) -> str:
        return self.airflow.wait_for_run(self.dag_id, self.run_id, timeout=240)  # before the test's own time is over

    def abandon(self) -> None:
        """Let nothing of this case reach into the next one, where it failed half-way."""
        if self.run_id:
            self.airflow.give_up(self.dag_id, self.run_id)
        self.emulator.reset()
        self.world.network.up()
        self.world.storage.up()
        self.open_gate()
        self.emulator.delete_active_jobs()

    def log(self, try_number: int = 1) -> str:
        return self.airflow.log(self.dag_id, self.run_id, "job", try_number)

    def told_by_airflow(self) -> str:
        """What Airflow knows of the run: its events, and the log of each try."""
        events = self.airflow.request("GET", "eventLogs", params={"dag_id": self.dag_id, "run_id": self.run_id})
        told: list[str] = [f"{event['when']} {event['event']} {event['extra']}" for event in events["event_logs"]]
        for ti in self.airflow.task_instances(self.dag_id, self.run_id):
            told += [f"{_key(ti)} {ti['state']}"]
            for number in range(1, (ti["try_number"] or 0) + 1):
                told += [self.airflow.log(self.dag_id, self.run_id, ti["task_id"], number, map_index=ti["map_index"])]
        return "\n".join(told)

    def result(self) -> dict[str, Any]:
        return dict(self.airflow.xcom(self.dag_id, self.run_id, "job"))

    def kill_worker(self, how: signal.Signals) -> None:
        """Signal the process that runs the task, and the one that supervises it."""
        task = psutil.Process(wait_until(lambda: self.task_instance()["pid"], timeout=30, what="the worker's pid"))
        supervisor = task.parent()
        assert supervisor
        assert supervisor.pid not in {process.pid for process in self.airflow.processes.values()}
        supervisor.send_signal(how)
        if how is signal.SIGKILL:
            task.send_signal(how)

    def ends(self, fault: str, *, created: int, states: list[str] | None) -> None:
        """Check what came of it, and tell it.

        :param states: of the run's task instances; None if a command ran the DAG, which has no run here
        """
        fault = f"{fault} (start_from_trigger)" if self.starts_in_triggerer else fault
        wait_until(lambda: not self.active(), timeout=30, what=f"no active job, but {self.active()}")
        seconds = time.monotonic() - self._started
        found = None if states is None else self.states()
        ended = ", ".join(f"{found.count(state)} {state}" for state in dict.fromkeys(found or []))
        self._told(Fault(fault, len(self.created()), len(self.active()), ended, seconds))
        assert len(self.created()) == created
        assert found == states


def _triggerers(tis: list[dict[str, Any]]) -> dict[int, str]:
    given = [ti["triggerer_job"] for ti in tis if ti["triggerer_job"]]
    return {triggerer["id"]: triggerer["hostname"] for triggerer in given}


def _key(ti: dict[str, Any]) -> str:
    """Return how the scheduler's log names a task instance's try."""
    names = f"dag_id='{ti['dag_id']}', task_id='{ti['task_id']}', run_id='{ti['dag_run_id']}'"
    return f"TaskInstanceKey({names}, try_number={ti['try_number']}, map_index={ti['map_index']})"
