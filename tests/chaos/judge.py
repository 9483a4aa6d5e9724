"""What a run came to: whether every job was judged right, and nothing was stopped, forgotten or left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_nbjob.metrics import THREAD_NAME
from tests.chaos.schedule import CONNECTIONS, RESULTS, Schedule, Task

CHANNEL = "grpc.Channel"  # as a census names them
# So much before its deadline a task that starts in the triggerer is given up (`triggers.start.TIMEOUT_MARGIN`), which
# imports Airflow, and Airflow imports this.
MARGIN, MARGIN_PART = 5.0, 0.2
EARLY_SECONDS = 0.05  # that two clocks of one machine may differ by
# Outcomes of tasks that start in the triggerer, beside those of their jobs: the trigger ended the task, or a worker is
# to start it.
SUCCESS, START = "success", "start"

Wrong = Callable[[Task, "Seen"], "str | None"]  # says what is wrong with a task, if anything is


@dataclass
class Seen:
    """What was seen of a run. Times are of CLOCK_MONOTONIC, which processes share.

    :param events: of each trigger, with their times
    :param failures: of triggers that ended without an event, by trigger
    :param started: when each trigger was first given to the runner
    :param ended: when the API ended each job by itself, by "location/job"
    :param killed: when a person ended each task
    :param asked_to_stop: when it was asked to cancel or delete each job, by "location/job"
    :param stopped: jobs that such a request ended
    :param created: jobs that each task that starts in the triggerer had, by the key of its job: ids, and when
    :param active: jobs that run at the end
    :param dropped: events that came when Airflow did not wait for them any more, by trigger
    :param given_up: when Airflow gave up a trigger, as its task's time was over
    :param faults: how often the API answered wrongly, or late
    :param before: what the runner held before the first trigger, see `inside.Census`
    :param after: what it held when the last had fired; None if it did not say
    """

    events: dict[int, list[tuple[float, dict[str, Any]]]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    killed: dict[int, float] = field(default_factory=dict)
    asked_to_stop: dict[str, list[float]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    created: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    dropped: dict[int, dict[str, Any]] = field(default_factory=dict)
    given_up: dict[int, float] = field(default_factory=dict)
    faults: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """One question to a run.

    :param wrong: a line for each thing that is not as it has to be
    """

    what: str
    of: int
    wrong: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether all is as it has to be."""
        return not self.wrong


def judge(schedule: Schedule, seen: Seen) -> list[Finding]:
    """Return what is found of a run, right and wrong."""
    by_outcome: dict[str, list[Task]] = {"finished": [], "lost": [], "timeout": [], "stopped": []}
    started = [task for task in schedule.tasks if task.start]
    for task in schedule.tasks:
        if not task.start:
            by_outcome[task.outcome].append(task)
    return [
        _finding("jobs that ended, and whose event says how", by_outcome["finished"], seen, _wrong_end),
        _finding("jobs that a stranger deleted, and whose event says so", by_outcome["lost"], seen, _wrong_loss),
        _finding("deadlines, reached neither early nor never", by_outcome["timeout"], seen, _wrong_timeout),
        _finding("stops that were asked for, and done", by_outcome["stopped"], seen, _wrong_stop),
        _finding("tasks that started in the triggerer, with one job at most", started, seen, _wrong_start),
        *_awaited_in_triggerer(started, seen),
        _unasked_stops(schedule, seen),
        Finding(
            "triggers that did not fail",
            len(schedule.tasks),
            tuple(f"trigger {identity}: {error}" for identity, error in sorted(seen.failures.items())),
        ),
        Finding("answers that went wrong", seen.faults, () if seen.faults else ("there was no chaos",)),
        *_leaks(seen),
    ]


def _unasked_stops(schedule: Schedule, seen: Seen) -> Finding:
    asked = {_key(task) for task in schedule.tasks if _may_be_stopped(task, seen)}
    others = {_key(task) for task in schedule.tasks} - asked
    requests = [(key, len(times)) for key, times in sorted(seen.asked_to_stop.items()) if key not in asked]
    return Finding(
        "jobs that nobody asked to stop, and nobody tried to",
        len(others),
        tuple(f"{key}: {count} requests to stop it" for key, count in requests),
    )


def _may_be_stopped(task: Task, seen: Seen) -> bool:
    """Return whether a triggerer may ask for a stop: at a deadline it does so of a job that it submitted too late."""
    if not task.start:
        return task.outcome == "stopped"
    is_timed_out = any(event["outcome"] == "timeout" for _, event in seen.events.get(task.id, ()))
    return is_timed_out or task.id in seen.killed or task.id in seen.given_up


def _finding(what: str, tasks: list[Task], seen: Seen, wrong: Wrong) -> Finding:
    told = ((task, wrong(task, seen)) for task in tasks)
    return Finding(what, len(tasks), tuple(f"{_shown(task)}: {problem}" for task, problem in told if problem))


def _key(task: Task) -> str:
    return "/".join(task.job)


def _shown(task: Task) -> str:
    return f"trigger {task.id} of {_key(task)} by {task.connection}"


def _of_one_event(wrong: Callable[[Task, Seen, float, dict[str, Any]], str | None]) -> Wrong:
    """Have a function judge the one event of a task; another number of events is wrong."""

    def wrong_events(task: Task, seen: Seen) -> str | None:
        events = seen.events.get(task.id, [])
        if len(events) != 1:
            return f"{len(events)} events" if events else "waits for ever"
        return wrong(task, seen, *events[0])

    return wrong_events


@_of_one_event
def _wrong_end(task: Task, seen: Seen, at: float, event: dict[str, Any]) -> str | None:
    if (event["outcome"], event["job_state"]) != ("finished", f"JOB_STATE_{task.state}"):
        return f"ended in {task.state}, and was told as {event}"
    if event["name"].split("/")[3::2] != [task.location, _job_id(task, seen)]:
        return f"another job's name: {event}"
    if not event["states"] or event["states"][-1][0] != f"JOB_STATE_{task.state}":
        return f"the end is not among the states that were seen: {event}"
    return _too_early(at, seen.ended.get(_key(task)))


@_of_one_event
def _wrong_loss(task: Task, seen: Seen, at: float, event: dict[str, Any]) -> str | None:
    if event["outcome"] != "lost":
        return f"was deleted, and was told as {event}"
    return _too_early(at, seen.ended.get(_key(task)))


@_of_one_event
def _wrong_timeout(task: Task, seen: Seen, at: float, event: dict[str, Any]) -> str | None:
    if event["outcome"] != "timeout":
        return f"was not finished at its deadline, and was told as {event}"
    deadline = task.deadline - (min(MARGIN, MARGIN_PART * task.deadline) if task.start else 0.0)
    return _too_early(at, seen.started[task.id] + deadline)


def _too_early(at: float, earliest: float | None) -> str | None:
    if earliest is None:
        return "nothing had happened by then"
    return f"{earliest - at:.2f} s too early" if at < earliest - EARLY_SECONDS else None


def _wrong_stop(task: Task, seen: Seen) -> str | None:
    requests = seen.asked_to_stop.get(_key(task), [])
    if events := seen.events.get(task.id):
        return f"an event of a task that was ended: {events}"
    if requests and (early := _too_early(requests[0], seen.killed.get(task.id))):
        return f"stopped before that was asked for: {early}"
    if _key(task) in seen.stopped:
        return None
    return f"not stopped, after {len(requests)} requests; Airflow said {task.killed_as} at tick {task.killed}"


def _job_id(task: Task, seen: Seen) -> str:
    """Return the id of a task's job in the API, or nothing if it has none."""
    return next((job_id for job_id, _ in seen.created.get(_key(task), [])), "") if task.start else task.job_id


def _wrong_start(task: Task, seen: Seen) -> str | None:
    """Return what is wrong with a task that started in the triggerer.

    If a worker goes on, it goes on with the job. So this may be active then, unless it was made when that worker had
    looked for it.
    """
    jobs, events = seen.created.get(_key(task), []), seen.events.get(task.id, [])
    if len(jobs) > 1:
        return f"{len(jobs)} jobs: {', '.join(job_id for job_id, _ in jobs)}"
    last = max((at for _, at in jobs), default=0.0)
    is_active = _key(task) in seen.active
    if task.id in seen.killed:
        # A trigger that has fired is told of nothing more: if its event is not heard, nobody knows of the job.
        is_forgiven = seen.dropped.get(task.id, {}).get("outcome") == START
        return None if is_forgiven and is_active else _wrong_end_by_person(task, seen, is_active=is_active)
    if task.id in seen.given_up:
        if is_active and last > seen.given_up[task.id]:
            return "its job was submitted after Airflow had given up the trigger, and goes on"
        return f"an event of a task that was given up: {events}" if events else None
    wrong = _wrong_event_of_start(task, seen)
    if wrong or not is_active:
        return wrong
    (at, event), *_ = events
    is_workers = event["outcome"] == START or (event["outcome"] == "timeout" and last < at)
    return None if is_workers else f"its job goes on, and nobody waits for it; the event was {event}"


def _wrong_end_by_person(task: Task, seen: Seen, *, is_active: bool) -> str | None:
    if events := seen.events.get(task.id):
        return f"an event of a task that was ended: {events}"
    requests = seen.asked_to_stop.get(_key(task), [])
    if requests and (early := _too_early(requests[0], seen.killed.get(task.id))):
        return f"stopped before that was asked for: {early}"
    if is_active:
        return f"not stopped, after {len(requests)} requests; Airflow said {task.killed_as} at tick {task.killed}"
    return None


@_of_one_event
def _wrong_event_of_start(task: Task, seen: Seen, at: float, event: dict[str, Any]) -> str | None:
    if event["outcome"] == START:
        return None
    if event["outcome"] != SUCCESS:
        return {"finished": _wrong_end, "lost": _wrong_loss}.get(task.outcome, _wrong_timeout)(task, seen)
    returned = event["xcoms"]["return_value"]
    if (task.state, returned["job_id"], returned["results"]) != ("SUCCEEDED", _job_id(task, seen), RESULTS):
        return f"ended in {task.state}, and was told as {event}"
    return _too_early(at, seen.ended.get(_key(task)))


def _awaited_in_triggerer(started: list[Task], seen: Seen) -> list[Finding]:
    """Return how many of these tasks were not left to a worker at once: some, or the triggerer submits nothing."""
    if not started:
        return []
    outcomes = [seen.events[task.id][0][1]["outcome"] for task in started if task.id in seen.events]
    awaited = sum(outcome != START for outcome in outcomes)
    return [Finding("of these, tasks that were awaited there", awaited, () if awaited else ("no task was",))]


def _leaks(seen: Seen) -> list[Finding]:
    if seen.after is None:
        return [Finding("threads, channels and tasks at the end", 0, ("the runner did not say what it holds",))]
    return [
        Finding(f"{what} at the end, {_total(seen.before[what])} before", _total(seen.after[what]), tuple(more))
        for what, more in leaks(seen.before, seen.after).items()
    ]


def leaks(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """Return what the runner holds that it did not hold before, by kind.

    A client of the API, and the thread that sends metrics, are kept for the life of the process: a channel of each
    connection's, and one such thread, do not count.
    """
    kept = {"channels": Counter({CHANNEL: len(CONNECTIONS)}), "threads": Counter({THREAD_NAME: 1})}
    return {
        what: sorted((Counter(after[what]) - Counter(before[what]) - kept.get(what, Counter())).elements())
        for what in after
    }


def _total(held: dict[str, int]) -> int:
    return sum(held.values())
