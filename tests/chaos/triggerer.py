"""One run: Airflow's own triggerer, with the schedule in place of the metadata database.

Real are `TriggerRunnerSupervisor` and the `TriggerRunner` that it forks, what the two say to each other, the look-up of
connections through the secrets backends, our trigger, watch and hook, and gRPC, with TLS and a service account's key on
one of the connections. In place of the API server answers `Chaos._answer`, below the supervisor's own client of it.
"""

from __future__ import annotations

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

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from tests.chaos import inside
from tests.chaos.judge import Seen, leaks
from tests.chaos.keys import service_account_key, write_certificate
from tests.chaos.schedule import KEY, PLAIN, TAIL, Schedule, Task
from tests.support.patience import patient
from tests.support.triggerer import Service, Supervisor, workload

TRIGGER = "airflow_provider_nbjob.triggers.notebook_execution_job.NotebookExecutionJobTrigger"
CENSUS = f"{inside.__name__}.Census"
FIRST_CENSUS = 1_000_000  # ids of triggers that only count
TICK_SECONDS = 1.0
STALL_SECONDS = 60.0  # without a word of the runner: its event loop hangs
# After the last tick: a watch may pause for a minute, and a request hang for half of one.
END_SECONDS = 150.0
PROJECT = "chaos"


class Chaos(Supervisor):
    """The supervisor, which also makes the schedule happen."""

    def begin_run(self, schedule: Schedule, service: Service, folder: Path) -> None:
        self.prepare(folder)
        self.schedule = schedule
        self.service = service
        self.tasks = {task.id: task for task in schedule.tasks}
        self.wanted: set[int] = set()  # as the metadata database would name this triggerer's triggers
        self.states: dict[int, str | None] = {}  # of the tasks, as Airflow has them
        self.silent: set[int] = set()  # tasks of which the next question is not answered
        self.end_times: dict[int, Any] = {}
        self.seen = Seen()
        self.done: Counter[str] = Counter()  # what the schedule did to the run
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
        self.seen.events.setdefault(trigger_id, []).append((time.monotonic(), event.payload))

    def on_trigger_failure(self, trigger_id: int, exc: Any) -> None:
        self.wanted.discard(trigger_id)
        self.seen.failures[trigger_id] = (exc or ["without an exception"])[-1]

    def make_client(self) -> Client:
        client = Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(self._answer))
        client.base_url = "http://in-process.invalid./"
        return client

    def _answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as the API server does: it knows the tasks, and no connection."""
        identity = int(request.url.params.get("map_index", -1))
        task = self.tasks.get(identity)
        if task and request.url.path == "/task-instances/states":
            if identity in self.silent:
                self.silent.discard(identity)
                self.done["questions that Airflow does not answer"] += 1
                return httpx.Response(400, json={"detail": "chaos"})
            state = self.states.get(identity)
            told = {} if state == "removed" else {f"wait_{identity}": "deferred" if state == "other" else state}
            return httpx.Response(200, json={"task_states": {"bench": told} if told else {}})
        if task and request.url.path.endswith(f"/{JOB_XCOM_KEY}"):
            name = name_of(task) + ("-again" if self.states.get(identity) == "other" else "")
            return httpx.Response(200, json={"key": JOB_XCOM_KEY, "value": {"name": name}})
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": f"no {request.url.path}"}})

    def _handle_request(self, msg: Any, *arguments: Any, **more: Any) -> None:
        self.syncs += isinstance(msg, messages.TriggerStateChanges)
        super()._handle_request(msg, *arguments, **more)

    # --- ticks ---

    def go_on(self) -> None:
        """Have the next tick come, when its time has come."""
        self.run_for_a_tick()
        self.tick += 1
        self.service("tick", tick=self.tick)
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
            self.wanted.add(task.id)
            self.states[task.id] = "deferred"
            self.done["triggers started"] += 1
        for gone, back in task.away:
            if self.tick == gone:
                self.take_away(task)
                self.done["triggers taken away"] += 1
            elif self.tick == back:
                self.wanted.add(task.id)
        if self.tick == task.killed:
            self.states[task.id] = task.killed_as
            self.seen.killed[task.id] = time.monotonic()
            self.take_away(task)
            self.done["tasks ended by a person"] += 1

    def take_away(self, task: Task) -> None:
        self.wanted.discard(task.id)
        if task.is_silent:
            self.silent.add(task.id)

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
        while (after := self.census()) and self.is_alive():
            self.seen.after = after
            if not any(leaks(self.seen.before, after).values()) or time.monotonic() > end:
                break
        self._take_report()
        return self.seen

    def _is_over(self) -> bool:
        self._take_report()
        return all(
            "/".join(task.job) in self.seen.stopped
            if task.outcome == "stopped"
            else task.id in self.seen.events or task.id in self.seen.failures
            for task in self.schedule.tasks
        )

    def _take_report(self) -> None:
        report = self.service("report")
        self.seen.ended, self.seen.stopped = report["ended"], report["stopped"]
        self.seen.asked_to_stop = report["asked_to_stop"]
        self.answers = report["answers"]
        self.seen.faults = sum(self.answers.values())


def name_of(task: Task) -> str:
    return f"projects/{PROJECT}/locations/{task.location}/notebookExecutionJobs/{task.job_id}"


def run(schedule: Schedule, minutes: float, folder: Path) -> tuple[Seen, dict[str, int]]:
    """Run a schedule.

    :param folder: an empty one, for the keys and the logs
    :return: what was seen, and how often what was done to the run
    """
    write_certificate(folder)
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(folder / "certificate.pem")
    os.environ[inside.FOLDER_VARIABLE] = str(folder)
    service = Service("tests.chaos.service", schedule.seed, str(minutes), str(len(schedule.tasks)), str(folder))
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
