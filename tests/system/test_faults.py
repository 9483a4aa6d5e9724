"""The fault matrix: whatever fails, a notebook is submitted once and no machine is left running.

A real Airflow and the emulator as separate processes; killed and stopped by signal, cut off by a relay, failing by
the emulator's faults. Each case prints one line with the jobs that it created and those left active. Some numbers are
smaller than those that `make test-faults` uses (pytest's option ``--whole``).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from airflow_provider_nbjob.job import JobState
from tests.conftest import EmulatorProcess, wait_until
from tests.relay import Relay
from tests.system.stack import Airflow

CREATE = "CreateNotebookExecutionJob"
NOTEBOOKS = {
    "quick": "print('done')",
    "failing": "raise ValueError('as asked')",
    "sleeping": "import time; time.sleep(60)",
    # ends once the gate is opened: so a test can act while it waits, however long that takes
    "waiting": """
import os, pathlib, time
end = time.monotonic() + 240
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
pytestmark = pytest.mark.timeout(600)


class World:
    """Airflow, the emulator, and the network between them.

    :param folder: for all that they write
    :param waiting: number of tasks of the DAG `waiting`
    :param many: number of tasks of the DAG `many`
    """

    def __init__(self, folder: Path, waiting: int, many: int) -> None:
        self.waiting, self.many = waiting, many
        self.gate = folder / "gate"
        notebooks = folder / "notebooks"
        notebooks.mkdir()
        for name, code in NOTEBOOKS.items():
            nbformat.write(
                nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), notebooks / f"{name}.ipynb"
            )
        self.emulator = EmulatorProcess(
            folder / "emulator",
            *("--max-concurrent", "24", "--cleanup-delay", "0.2", "--upload", f"{notebooks}=gs://faults/notebooks"),
            environment={"FAULTS_GATE": str(self.gate)},
        )
        self.network = Relay(self.emulator.exports["NBJOB_EMULATOR_HOST"])
        exports = {**self.emulator.exports, "NBJOB_EMULATOR_HOST": self.network.address}
        counts = {"FAULTS_WAITING": str(waiting), "FAULTS_MANY": str(many)}
        self.airflow = Airflow(folder / "home", Path(__file__).parent / "dags", {**SETTINGS, **exports, **counts})

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
        self.emulator.stop()


class Case:
    """One case of the matrix: runs a DAG, and knows the jobs that came of it.

    :param printed: takes the line that says how it went
    """

    def __init__(self, world: World, printed: Callable[[str], None]) -> None:
        self.world, self.airflow, self.emulator = world, world.airflow, world.emulator
        self._printed = printed
        self._earlier = set(world.emulator.submitted())
        self._started = time.monotonic()
        self.dag_id = self.run_id = ""

    def start(self, dag_id: str, notebook: str, run_id: str | None = None) -> None:
        """Start a run."""
        self.dag_id = dag_id
        body = {"dag_run_id": run_id} if run_id else {}
        self.run_id = self.airflow.trigger(dag_id, {"notebook": notebook}, **body)

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

    def wait_until_deferred(self, count: int = 1) -> None:
        """Wait until so many tasks are deferred, their jobs run, and their triggers wait for them."""
        wait_until(lambda: self.states().count("deferred") == count, timeout=240, what=f"{count} deferred", interval=1)
        wait_until(lambda: self.running() >= count, timeout=120, what=f"{count} running", interval=1)
        self.wait_until_handed_over(set())

    def triggerers(self) -> set[int | None]:
        """The ids of the triggerers that the run's tasks are given to."""
        return _triggerers(self.airflow.task_instances(self.dag_id, self.run_id))

    def wait_until_handed_over(self, before: set[int | None]) -> None:
        """Wait until triggerers other than those before look at all the jobs."""

        def looked_at() -> bool:
            tis = self.airflow.task_instances(self.dag_id, self.run_id)
            return not _triggerers(tis) & {*before, None} and all(map(self._has_looked, tis))

        wait_until(looked_at, timeout=120, what="triggers at work", interval=1)

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

    def wait_for_executor(self, processes: int) -> None:
        """Wait until the scheduler took note that so many processes of the task have ended.

        Airflow 3.3.2 would take the note for one on the next task instance of the same name, and fail that.
        """
        ended = f"Received executor event with state success for task instance TaskInstanceKey(dag_id='{self.dag_id}'"
        lines = (self.airflow.home / "scheduler.log").read_text

        def noted() -> bool:
            return sum(ended in line and f"'{self.run_id}'" in line for line in lines().splitlines()) >= processes

        wait_until(noted, timeout=30, what="the executor's events")

    def wait_for_run(self) -> str:
        return self.airflow.wait_for_run(self.dag_id, self.run_id, timeout=300)

    def log(self, try_number: int = 1) -> str:
        return self.airflow.log(self.dag_id, self.run_id, "job", try_number)

    def result(self) -> dict[str, Any]:
        return dict(self.airflow.xcom(self.dag_id, self.run_id, "job"))

    def kill_worker(self, how: signal.Signals) -> None:
        """Signal the process that runs the task, and the one that supervises it."""
        task = psutil.Process(wait_until(lambda: self.task_instance()["pid"], timeout=30, what="the worker's pid"))
        supervisor = task.parent()
        assert supervisor
        assert supervisor.pid != self.airflow.processes["scheduler"].pid
        supervisor.send_signal(how)
        if how is signal.SIGKILL:
            task.send_signal(how)

    def ends(self, fault: str, *, created: int, states: list[str]) -> None:
        """Check what came of it, and print the line."""
        wait_until(lambda: not self.active(), timeout=30, what=f"no active job, but {self.active()}")
        seconds = time.monotonic() - self._started
        ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(self.states()))
        jobs = f"{len(self.created()):>3} created  {len(self.active())} left active"
        self._printed(f"{fault:<68} {jobs}  {ended}  ({seconds:.0f} s)")
        assert len(self.created()) == created
        assert self.states() == states


def _triggerers(tis: list[dict[str, Any]]) -> set[int | None]:
    return {(ti["triggerer_job"] or {}).get("id") for ti in tis}


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    numbers = {"waiting": 20, "many": 50} if request.config.getoption("--whole") else {"waiting": 8, "many": 12}
    with World(tmp_path_factory.mktemp("faults"), **numbers) as made:
        yield made


@pytest.fixture
def case(world: World, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    def printed(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    world.emulator.reset()
    world.gate.unlink(missing_ok=True)
    yield Case(world, printed)
    world.emulator.reset()
    world.network.up()
    world.gate.touch()
    world.emulator.delete_active_jobs()


@pytest.mark.parametrize("times", [1, 3])
def test_lost_answer(case, times):
    case.emulator.fault(CREATE, "UNAVAILABLE", times=times, drop_response=True)
    case.start("deferred", "quick")
    assert case.wait_for_run() == "success"
    case.ends(f"create's answer lost {times} times", created=1, states=["success"])


def test_worker_killed_before_the_create_returned(case):
    case.emulator.fault(CREATE, "UNAVAILABLE", drop_response=True)
    case.start("deferred_retried", "quick")
    wait_until(case.created, timeout=60, what="a job")
    case.kill_worker(signal.SIGKILL)
    case.emulator.reset()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGKILLed between create and its return", created=1, states=["success"])
    assert case.task_instance()["try_number"] == 2


def test_worker_killed_while_it_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.kill_worker(signal.SIGKILL)
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=90, what="the second try")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGKILLed while waiting (blocking)", created=1, states=["success"])


def test_worker_shut_down_while_it_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.kill_worker(signal.SIGTERM)
    wait_until(lambda: "its next try goes on with job" in case.log(), timeout=30, what="the answer to SIGTERM")
    case.kill_worker(signal.SIGKILL)
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=90, what="the second try")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("worker SIGTERMed, then SIGKILLed, while waiting (rolling restart)", created=1, states=["success"])


def test_triggerer_killed_and_restarted(case, world):
    case.start("waiting", "waiting")
    case.wait_until_deferred(world.waiting)
    for how in (signal.SIGKILL, signal.SIGTERM):
        before = case.triggerers()
        case.airflow.stop("triggerer", how)
        case.airflow.start("triggerer")
        case.wait_until_handed_over(before)
    assert case.running() == world.waiting
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends(
        "triggerer SIGKILLed, SIGTERMed, restarted while waiting",
        created=world.waiting,
        states=["success"] * world.waiting,
    )


def test_triggerer_stalled_and_its_trigger_adopted(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    before = case.triggerers()
    case.airflow.signal("triggerer", signal.SIGSTOP)
    stalled = time.monotonic()
    case.airflow.start("triggerer", name="second triggerer")
    try:
        case.wait_until_handed_over(before)
        wait_until(lambda: time.monotonic() - stalled > 50, timeout=60, what="50 s of stall")
        case.airflow.signal("triggerer", signal.SIGCONT)
        wait_until(lambda: "Another triggerer waits" in case.log(), timeout=60, what="the guard of on_kill", interval=1)
        assert case.running() == 1
        case.open_gate()
        assert case.wait_for_run() == "success"
    finally:
        case.airflow.signal("triggerer", signal.SIGCONT)
        case.airflow.stop("second triggerer")
    case.ends("triggerer stopped 50 s, its trigger adopted, continued", created=1, states=["success"])


def test_emulator_down(case, world, request):
    seconds = 60 if request.config.getoption("--whole") else 20
    case.start("waiting", "waiting")
    case.wait_until_deferred(world.waiting)
    world.network.down()
    down = time.monotonic()
    case.open_gate()
    wait_until(lambda: time.monotonic() - down > seconds, timeout=seconds + 10, what="the time without the API")
    assert case.states() == ["deferred"] * world.waiting
    world.network.up()
    assert case.wait_for_run() == "success"
    case.ends(f"emulator down {seconds} s while waiting", created=world.waiting, states=["success"] * world.waiting)


def test_every_rpc_fails_at_random(case, world):
    case.emulator.fault("*", "UNAVAILABLE", probability=0.3)
    case.start("many", "quick")
    assert case.wait_for_run() == "success"
    case.emulator.reset()
    case.ends("every rpc fails with probability 0.3", created=world.many, states=["success"] * world.many)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_deferred(case, state):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.airflow.mark(case.dag_id, case.run_id, "job", state)
    case.ends(f"marked {state} while deferred", created=1, states=[state])


def test_run_marked_failed_while_deferred(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.airflow.request("PATCH", f"dags/{case.dag_id}/dagRuns/{case.run_id}", json={"state": "failed"})
    case.ends("run marked failed while deferred", created=1, states=["failed"])


def test_marked_failed_while_a_worker_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.airflow.mark(case.dag_id, case.run_id, "job", "failed")
    case.ends("marked failed while a worker waits", created=1, states=["failed"])


def test_cleared_while_a_worker_waits(case):
    case.start("blocking_retried", "waiting")
    wait_until(case.running, timeout=60, what="a job that runs")
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 2, timeout=90, what="a second job")
    wait_until(lambda: case.active() == case.created()[1:], timeout=60, what="only the second job active")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("cleared while a worker waits", created=2, states=["success"])


def test_cleared_while_deferred(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: len(case.created()) == 2, timeout=60, what="a second job")
    wait_until(lambda: case.active() == case.created()[1:], timeout=60, what="only the second job active")
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("cleared while deferred", created=2, states=["success"])
    assert case.result()["job_id"] == case.created()[1]


def test_run_deleted_and_triggered_again(case):
    results = []
    for _ in range(2):
        case.start("deferred", "quick", run_id="the-same")
        assert case.wait_for_run() == "success"
        results.append(case.result()["job_id"])
        if len(results) == 1:
            case.wait_for_executor(processes=2)
            case.airflow.request("DELETE", f"dags/{case.dag_id}/dagRuns/{case.run_id}")
    case.ends("run deleted and triggered again with the same run id", created=2, states=["success"])
    assert results == case.created()


def test_cleared_after_success(case):
    case.start("deferred", "quick")
    assert case.wait_for_run() == "success"
    first = case.result()["job_id"]
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: case.task_instance()["try_number"] == 2, timeout=60, what="the second try")
    assert case.wait_for_run() == "success"
    case.ends("cleared after success", created=2, states=["success"])
    assert [first, case.result()["job_id"]] == case.created()


def test_cleared_after_success_while_the_run_goes_on(case):
    case.start("two", "quick")
    wait_until(lambda: case.task_instance()["state"] == "success", timeout=90, what="the first success")
    first = case.result()["job_id"]
    case.airflow.clear(case.dag_id, case.run_id, "job")
    wait_until(lambda: case.task_instance()["state"] != "success", timeout=60, what="the clear")
    wait_until(lambda: case.task_instance()["state"] == "success", timeout=90, what="the second success")
    second = case.result()["job_id"]
    case.open_gate()
    assert case.wait_for_run() == "success"
    case.ends("cleared after success, another task of the run still waiting", created=3, states=["success"] * 2)
    assert first != second
    assert {first, second} < set(case.created())


@pytest.mark.parametrize("how", ["deferred", "blocking"])
def test_execution_timeout(case, how):
    case.start(f"{how}_limited", "sleeping")
    assert case.wait_for_run() == "failed"
    case.ends(f"execution_timeout of 5 s, notebook of 60 s ({how})", created=1, states=["failed"])
    assert "JobTimeout" in case.log()
    assert case.task_instance()["duration"] < 5 + 1 + 10


def test_job_deleted_by_somebody_else(case):
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    (job_id,) = case.created()
    case.emulator.delete(case.job_names()[job_id])
    assert case.wait_for_run() == "failed"
    case.ends("job deleted by somebody else", created=1, states=["failed"])
    assert "JobLost" in case.log()


def test_notebook_that_fails_is_tried_again(case):
    case.start("deferred_retried", "failing")
    assert case.wait_for_run() == "failed"
    case.ends("notebook fails, with retries=1", created=2, states=["failed"])
    for try_number, job_id in enumerate(case.created(), start=1):
        log = case.log(try_number)
        assert "ValueError: as asked" in log
        assert f"Notebook job {job_id} ended as JOB_STATE_FAILED" in log


@pytest.mark.parametrize("cancel", ["supported", "UNIMPLEMENTED"])
def test_stopped_with_and_without_cancel(case, cancel):
    if cancel == "UNIMPLEMENTED":
        case.emulator.fault("CancelOperation", "UNIMPLEMENTED")
    case.start("deferred", "waiting")
    case.wait_until_deferred()
    (job_id,) = case.created()
    case.airflow.mark(case.dag_id, case.run_id, "job", "failed")
    case.ends(f"marked failed, operations.cancel {cancel}", created=1, states=["failed"])
    assert (job_id in case.job_names()) == (cancel == "supported")
    assert case.emulator.calls().get("DeleteNotebookExecutionJob", 0) == (cancel != "supported")
