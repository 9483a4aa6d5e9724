"""One run: Airflow's own triggerer, with the schedule in place of the metadata database.

Real are `TriggerRunnerSupervisor` and the `TriggerRunner` that it forks, what the two say to each other, the look-up of
connections through the secrets backends, our triggers, watch and hook, and gRPC, with TLS and a service account's key
on one of the connections. In place of the API server answers `ApiServer`, below the supervisor's own client of it.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.sdk.api.client import Client
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse, GetXCom, SetXCom
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from tests.chaos import inside
from tests.chaos.api_server import PROJECT, ApiServer, name_of
from tests.chaos.judge import SUCCESS, Seen, leaks
from tests.chaos.keys import service_account_key, write_certificate
from tests.chaos.schedule import KEY, PLAIN, SILENT, TAIL, Schedule, Task
from tests.chaos.starts import StartedTask
from tests.support.patience import patient
from tests.support.service_process import Service
from tests.support.triggerer import Supervisor, workload

TRIGGER = "airflow_provider_nbjob.triggers.notebook_execution_job.NotebookExecutionJobTrigger"
CENSUS = f"{inside.__name__}.Census"
FIRST_CENSUS = 1_000_000  # ids of triggers that only count
TICK_SECONDS = 1.0
STALL_SECONDS = 60.0  # without a word of the runner: its event loop hangs
# After the last tick: a watch may pause for a minute, and a request hang for half of one.
END_SECONDS = 150.0
SILENT_SECONDS = 5.0  # until the client of an API server that does not answer gives up
AWAY_SECONDS = 3.0  # until a trigger that was taken away before its job was on record is given back
AFTER_DEFERRAL = ("scheduled", "queued", "running")  # what Airflow says of a task that a worker goes on with


class Chaos(Supervisor):
    """The supervisor, which also makes the schedule happen."""

    def begin_run(self, schedule: Schedule, service: Service, folder: Path) -> None:
        self.prepare(folder)
        self.schedule = schedule
        self.service = service
        self.tasks = {task.id: task for task in schedule.tasks}
        self.wanted: set[int] = set()  # as the metadata database would name this triggerer's triggers
        self.end_times: dict[int, Any] = {}
        self.seen = Seen()
        self.done: Counter[str] = Counter()  # what the schedule did to the run
        self.api = ApiServer(self.tasks, self.done)
        self.started: dict[int, StartedTask] = {}
        self.held: list[tuple[float, int]] = []  # requests that are not answered, and until when
        self.comes_back: dict[int, float] = {}  # when a trigger that was taken away out of turn is given back
        self.taken_away = {task.id for task in schedule.tasks if not (task.start and task.start.is_taken_away)}
        self.tick = -1
        self.syncs = 0  # how often the runner spoke to this process
        self.censuses = 0

    # --- in the runner ---

    @classmethod
    def run_in_process(cls) -> None:
        inside.set_clock_apart()
        TriggerRunner().run()

    # --- in place of the database ---

    def load_triggers(self) -> None:
        self.update_triggers(set(self.wanted))

    def build_trigger_workloads(self, new_trigger_ids: set[int]) -> list[RunTrigger]:
        made = [self._workload(identity) for identity in sorted(new_trigger_ids)]
        for trigger in made:
            self.keep_log(trigger)
        return made

    def _workload(self, identity: int) -> RunTrigger:
        if identity >= FIRST_CENSUS:
            return workload(identity, CENSUS, {})
        task = self.tasks[identity]
        self.seen.started.setdefault(identity, time.monotonic())
        if task.start:
            return self.started[identity].workload()
        if identity not in self.end_times:
            is_number = isinstance(task.deadline, float) and task.deadline < float("inf")
            self.end_times[identity] = time.time() + task.deadline if is_number else task.deadline
        return workload(
            identity,
            TRIGGER,
            {
                "name": name_of(task),
                "gcp_conn_id": task.connection,
                "poll_interval": task.interval,
                "end_time": self.end_times[identity],
            },
        )

    def on_trigger_event(self, trigger_id: int, event: Any) -> None:
        self.wanted.discard(trigger_id)
        told = event.payload
        if trigger_id in self.started:
            if self.api.states[trigger_id] != "deferred":
                self.seen.dropped[trigger_id] = told
                self.done["events that Airflow dropped, as the task had been ended"] += 1
                return
            is_end = isinstance(event, TaskSuccessEvent)
            self.api.states[trigger_id] = "success" if is_end else AFTER_DEFERRAL[0]
            told = {"outcome": SUCCESS, "xcoms": event.xcoms} if is_end else told
            self.done[f"tasks that started in the triggerer, and fired {told['outcome']!r}"] += 1
        self.seen.events.setdefault(trigger_id, []).append((time.monotonic(), told))

    def on_trigger_failure(self, trigger_id: int, exc: Any) -> None:
        self.wanted.discard(trigger_id)
        self.seen.failures[trigger_id] = (exc or ["without an exception"])[-1]

    def make_client(self) -> Client:
        client = Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(self.api.answer))
        client.base_url = "http://in-process.invalid./"
        return client

    def _handle_request(self, msg: Any, log: Any, req_id: int) -> None:
        self.syncs += isinstance(msg, messages.TriggerStateChanges)
        is_of_record = isinstance(msg, GetXCom | SetXCom) and msg.key == JOB_XCOM_KEY
        if is_of_record and (task := self.api.task_of(msg.dag_id, msg.map_index)):
            is_read = isinstance(msg, GetXCom)
            self.api.how = self.api.fault(task, is_read=is_read)
            if not is_read and task.id not in self.taken_away:
                self.taken_away.add(task.id)
                self._take_away_before_the_record(task)
                self.api.how = SILENT
            if self.api.how == SILENT:
                self.held.append((time.monotonic() + SILENT_SECONDS, req_id))
                return
        super()._handle_request(msg, log, req_id)

    def _take_away_before_the_record(self, task: Task) -> None:
        if self.api.states[task.id] == "deferred" and task.id in self.wanted:
            self.take_away(task)
            self.comes_back[task.id] = time.monotonic() + AWAY_SECONDS
            self.done["triggers taken away between the create and the record"] += 1

    def _give_up_requests(self) -> None:
        """Answer the requests that were held, as the supervisor does of an API server that is silent."""
        now = time.monotonic()
        due = [req_id for until, req_id in self.held if until <= now]
        self.held = [(until, req_id) for until, req_id in self.held if until > now]
        for req_id in due:
            error = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"message": "chaos: timed out"})
            self.send_msg(None, error=error, request_id=req_id)

    # --- ticks ---

    def go_on(self) -> None:
        """Have the next tick come, when its time has come."""
        self.run_for_a_tick()
        self.tick += 1
        self.settle()
        self.tell_connections()
        offset = self.schedule.clock_offset(self.tick)
        self.done["clock steps"] += offset != inside.clock_offset.value
        inside.clock_offset.value = offset
        for task in self.schedule.tasks:
            self._move(task)

    def run_for_a_tick(self) -> None:
        started, syncs = time.monotonic(), self.syncs
        while (now := time.monotonic()) < started + TICK_SECONDS or self.syncs == syncs:
            self.run_once()
            if not self.is_alive() or (self.syncs == syncs and now > started + patient(STALL_SECONDS)):
                raise RuntimeError(f"the triggerer's runner has ended or hangs, at tick {self.tick}")

    def _move(self, task: Task) -> None:
        if task.id in self.seen.events or task.id in self.seen.failures:
            return
        if self.tick == task.starts:
            if task.start:
                self.started[task.id] = StartedTask(task)
                self.done["triggers started that submit the job"] += 1
            self.wanted.add(task.id)
            self.api.states[task.id] = "deferred"
            self.done["triggers started"] += 1
        for gone, back in task.away:
            if self.tick == gone:
                self.take_away(task)
                self.done["triggers taken away"] += 1
            elif self.tick == back and self.api.states[task.id] == "deferred":
                self.wanted.add(task.id)
        if self.tick == task.killed:
            self.api.states[task.id] = task.killed_as
            self.seen.killed[task.id] = time.monotonic()
            self.take_away(task)
            self.done["tasks ended by a person"] += 1

    def settle(self) -> None:
        """Have the service and Airflow go on with what is under way."""
        self.service("tick", tick=self.tick, recorded=list(self.api.records))
        self._give_up_requests()
        for identity in self.started:
            self._move_started(self.tasks[identity])

    def _move_started(self, task: Task) -> None:
        state = self.api.states.get(task.id)
        if state in AFTER_DEFERRAL[:-1]:
            self.api.states[task.id] = AFTER_DEFERRAL[AFTER_DEFERRAL.index(state) + 1]
        if state != "deferred":
            return
        if time.monotonic() > self.comes_back.get(task.id, math.inf):
            del self.comes_back[task.id]
            self.wanted.add(task.id)
        if self.started[task.id].is_timed_out:  # the scheduler has a worker fail the task, and stop its job
            self.api.states[task.id] = AFTER_DEFERRAL[0]
            self.seen.given_up[task.id] = time.monotonic()
            self.done["triggers that Airflow gave up at the task's time limit"] += 1
            self.wanted.discard(task.id)

    def take_away(self, task: Task) -> None:
        self.wanted.discard(task.id)
        if task.is_silent:
            self.api.silent.add(task.id)

    def tell_connections(self) -> None:
        """Leave for the secrets backend what the connections are at this tick."""
        held, accepted = self.schedule.keys(self.tick)
        calm = self.tick >= self.schedule.ticks
        faults = {c: "" if calm else self.schedule.connection_fault(c, self.tick) for c in held}
        self.done["ticks with a connection that cannot be looked up"] += any(faults.values())
        self.done["ticks with a key that is refused"] += held != accepted
        tls, *plain = self.service.told["ports"]
        extras = {
            KEY: {"keyfile_dict": self.key(held[KEY]), "api_endpoint": f"127.0.0.1:{tls}"},
            PLAIN: {"api_endpoint": f"http://127.0.0.1:{plain[held[PLAIN]]}"},
        }
        inside.tell({c: {"how": faults[c], "extra": {"project": PROJECT, **extra}} for c, extra in extras.items()})

    def key(self, number: int) -> str:
        path = self.folder / f"key-{number}.json"
        if not path.exists():
            path.write_text(service_account_key(number))
        return path.read_text()

    # --- from the beginning to the end ---

    def census(self) -> dict[str, Any] | None:
        """Ask the runner what it holds; None if it does not say in time."""
        identity = FIRST_CENSUS + self.censuses
        self.censuses += 1
        self.wanted.add(identity)
        end = time.monotonic() + patient(STALL_SECONDS)
        while identity not in self.seen.events and self.is_alive() and time.monotonic() < end:
            self.run_once()
        return self.seen.events.pop(identity)[0][1] if identity in self.seen.events else None

    def run_all(self) -> Seen:
        """Run the schedule, wait until all is done, and return what was seen."""
        self.tell_connections()
        self.seen.before = self.census() or {}
        while self.tick < self.schedule.ticks + TAIL:
            self.go_on()
        end = time.monotonic() + patient(END_SECONDS)
        while not self._is_over() and self.is_alive() and time.monotonic() < end:
            self.run_for_a_tick()
            self.settle()
        while (after := self.census()) and self.is_alive():
            self.seen.after = after
            if not any(leaks(self.seen.before, after).values()) or time.monotonic() > end:
                break
        self._take_report()
        return self.seen

    def _is_over(self) -> bool:
        self._take_report()
        return all(self._has_ended(task) for task in self.schedule.tasks)

    def _has_ended(self, task: Task) -> bool:
        key = "/".join(task.job)
        if task.start and task.id in self.seen.killed and key not in self.seen.active:
            return True  # perhaps it never had a job
        ends = (self.seen.events, self.seen.failures, self.seen.given_up, self.seen.dropped)
        return key in self.seen.stopped or any(task.id in end for end in ends)

    def _take_report(self) -> None:
        report = self.service("report")
        self.seen.ended, self.seen.stopped = report["ended"], report["stopped"]
        self.seen.asked_to_stop = report["asked_to_stop"]
        self.seen.created, self.seen.active = report["created"], report["active"]
        self.answers = report["answers"]
        self.seen.faults = sum(self.answers.values())


def run(schedule: Schedule, minutes: float, folder: Path) -> tuple[Seen, dict[str, int]]:
    """Run a schedule.

    :param folder: an empty one, for the keys and the logs
    :return: what was seen, and how often what was done to the run
    """
    write_certificate(folder)
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(folder / "certificate.pem")
    os.environ[inside.FOLDER_VARIABLE] = str(folder)
    starting = "yes" if any(task.start for task in schedule.tasks) else ""
    service = Service(
        "tests.chaos.service", schedule.seed, str(minutes), str(len(schedule.tasks)), starting, str(folder)
    )
    os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{service.told['storage']}"
    try:
        supervisor = Chaos.start(capacity=2 * len(schedule.tasks))
        try:
            supervisor.begin_run(schedule, service, folder)
            seen = supervisor.run_all()
        finally:
            supervisor.kill(signal.SIGTERM, force=True)
    finally:
        service.close()
    answers = {f"answers: {how}": count for how, count in sorted(supervisor.answers.items())}
    return seen, {**supervisor.done, **answers}
