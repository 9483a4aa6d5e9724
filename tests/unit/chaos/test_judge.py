"""The judge of `make chaos` finds what is wrong with a run, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.chaos.judge import CHANNEL, Seen, judge
from tests.chaos.schedule import RESULTS, Schedule, Task, make_schedule

START, END, LATE = 1000.0, 2000.0, 3000.0
BEFORE: dict[str, Any] = {"threads": {"MainThread": 1}, "channels": {CHANNEL: 0}, "tasks": {"TriggerRunner.arun": 1}}
SCHEDULE = make_schedule("judge", 2.0)
OUTCOMES = ("finished", "lost", "timeout", "stopped")


def first_of(outcome: str, *, is_started: bool) -> Task:
    """Return a task, of which each outcome is to be judged whether it started in the triggerer or not."""
    return next(t for t in SCHEDULE.tasks if t.outcome == outcome and bool(t.start) is is_started)


FINISHED, LOST, TIMEOUT, KILLED = (first_of(outcome, is_started=False) for outcome in OUTCOMES)
STARTED_LOST, STARTED_TIMEOUT, STARTED_KILLED = (first_of(outcome, is_started=True) for outcome in OUTCOMES[1:])
SUCCEEDED, FAILED = (
    next(task for task in SCHEDULE.tasks if task.start and (task.outcome, task.state) == ("finished", state))
    for state in ("SUCCEEDED", "FAILED")
)
STARTED = (SUCCEEDED, FAILED, STARTED_LOST, STARTED_TIMEOUT)


def key_of(task) -> str:
    return "/".join(task.job)


def job_id_of(task) -> str:
    return f"nbjob-{task.id}" if task.start else task.job_id


def event_of(task) -> dict[str, Any]:
    if task.start and (task.outcome, task.state) == ("finished", "SUCCEEDED"):
        return {"outcome": "success", "xcoms": {"return_value": {"job_id": job_id_of(task), "results": RESULTS}}}
    state = f"JOB_STATE_{task.state}" if task.outcome == "finished" else None
    return {
        "name": f"projects/chaos/locations/{task.location}/notebookExecutionJobs/{job_id_of(task)}",
        "job_state": state,
        "outcome": task.outcome,
        "states": [["JOB_STATE_RUNNING", "1"], *([[state, "2"]] if state else [])],
    }


@pytest.fixture
def seen() -> Seen:
    """A run in which all went right."""
    waited = [task for task in SCHEDULE.tasks if task.outcome != "stopped"]
    killed = [task for task in SCHEDULE.tasks if task.outcome == "stopped"]
    return Seen(
        events={task.id: [(LATE, event_of(task))] for task in waited},
        started={task.id: START for task in SCHEDULE.tasks},
        ended={"/".join(task.job): END for task in waited if task.ends is not None},
        killed={task.id: END for task in killed},
        asked_to_stop={"/".join(task.job): [LATE] for task in killed},
        stopped=["/".join(task.job) for task in killed],
        created={key_of(task): [(job_id_of(task), START)] for task in SCHEDULE.tasks if task.start},
        faults=1,
        before=copy.deepcopy(BEFORE),
        after={**copy.deepcopy(BEFORE), "channels": {CHANNEL: 2}},
    )


def wrong(seen: Seen, schedule: Schedule = SCHEDULE) -> list[str]:
    return [line for finding in judge(schedule, seen) for line in finding.wrong]


def test_a_run_in_which_all_went_right_is_right(seen):
    findings = judge(SCHEDULE, seen)
    assert all(finding.is_right for finding in findings), wrong(seen)
    assert sum(finding.of for finding in findings[:5]) == len(SCHEDULE.tasks), "each task is judged once"


@pytest.mark.parametrize("task", [FINISHED, LOST, TIMEOUT], ids=lambda task: task.outcome)
def test_a_task_that_waits_for_ever_is_wrong(seen, task):
    del seen.events[task.id]
    (line,) = wrong(seen)
    assert "waits for ever" in line
    assert f"trigger {task.id} " in line


@pytest.mark.parametrize("task", [FINISHED, LOST, TIMEOUT], ids=lambda task: task.outcome)
def test_two_events_of_a_task_are_wrong(seen, task):
    seen.events[task.id] *= 2
    (line,) = wrong(seen)
    assert "2 events" in line


@pytest.mark.parametrize("task", [FINISHED, LOST, TIMEOUT], ids=lambda task: task.outcome)
@pytest.mark.parametrize("outcome", ["finished", "lost", "timeout", "error"])
def test_another_outcome_is_wrong(seen, task, outcome):
    seen.events[task.id][0][1]["outcome"] = outcome
    assert len(wrong(seen)) == (outcome != task.outcome)


@pytest.mark.parametrize(
    "changes",
    [
        {"job_state": "JOB_STATE_RUNNING"},
        {"job_state": None},
        {"name": event_of(LOST)["name"]},
        {"states": []},
        {"states": [["JOB_STATE_RUNNING", "1"]]},
    ],
    ids=str,
)
def test_an_event_that_says_something_else_is_wrong(seen, changes):
    seen.events[FINISHED.id][0][1].update(changes)
    assert len(wrong(seen)) == 1


@pytest.mark.parametrize("task", [FINISHED, LOST], ids=lambda task: task.outcome)
def test_an_event_before_the_end_is_wrong(seen, task):
    seen.events[task.id] = [(END - 1, event_of(task))]
    (line,) = wrong(seen)
    assert "1.00 s too early" in line


def test_a_deadline_that_is_reached_early_is_wrong_and_late_is_not(seen):
    seen.events[TIMEOUT.id] = [(START + TIMEOUT.deadline - 1, event_of(TIMEOUT))]
    assert "too early" in wrong(seen)[0]
    seen.events[TIMEOUT.id] = [(START + TIMEOUT.deadline + 999, event_of(TIMEOUT))]
    assert wrong(seen) == []


@pytest.mark.parametrize("task", [FINISHED, LOST, TIMEOUT], ids=lambda task: task.outcome)
def test_a_stop_that_nobody_asked_for_is_wrong_even_if_it_was_refused(seen, task):
    seen.asked_to_stop["/".join(task.job)] = [LATE]
    (line,) = wrong(seen)
    assert line == f"{task.location}/{task.job_id}: 1 requests to stop it"


def test_a_stop_that_was_not_done_or_came_too_early_is_wrong(seen):
    key = "/".join(KILLED.job)
    seen.stopped.remove(key)
    assert "not stopped, after 1 requests" in wrong(seen)[0]
    del seen.asked_to_stop[key]
    assert "not stopped, after 0 requests" in wrong(seen)[0]
    seen.stopped.append(key)
    seen.asked_to_stop[key] = [END - 5]
    assert "stopped before that was asked for: 5.00 s too early" in wrong(seen)[0]


def test_an_event_of_a_task_that_was_ended_is_wrong(seen):
    seen.events[KILLED.id] = [(LATE, event_of(FINISHED))]
    assert "an event of a task that was ended" in wrong(seen)[0]


@pytest.mark.parametrize("task", STARTED, ids=lambda task: task.state or task.outcome)
def test_a_task_that_started_in_the_triggerer_and_waits_for_ever_is_wrong(seen, task):
    del seen.events[task.id]
    assert any("waits for ever" in line for line in wrong(seen))


@pytest.mark.parametrize("task", [*STARTED, STARTED_KILLED], ids=lambda task: task.state or task.outcome)
def test_a_second_job_is_wrong(seen, task):
    seen.created[key_of(task)].append(("another", START))
    (line,) = wrong(seen)
    assert "2 jobs" in line
    assert "another" in line


@pytest.mark.parametrize("task", STARTED, ids=lambda task: task.state or task.outcome)
@pytest.mark.parametrize("created", [[], [("a", START)]])
def test_a_task_that_a_worker_starts_is_right_whatever_became_of_its_job(seen, task, created):
    seen.events[task.id] = [(LATE, {"outcome": "start"})]
    seen.created[key_of(task)] = created
    seen.active = [key_of(task)] if created else []
    assert wrong(seen) == []


@pytest.mark.parametrize("task", [SUCCEEDED, FAILED, STARTED_LOST], ids=lambda task: task.state or task.outcome)
def test_a_job_that_nobody_waits_for_is_wrong(seen, task):
    seen.active = [key_of(task)]
    (line,) = wrong(seen)
    assert "nobody waits for it" in line


def test_a_worker_stops_a_job_that_was_there_at_the_deadline_and_no_other(seen):
    seen.active = [key_of(STARTED_TIMEOUT)]
    assert wrong(seen) == []
    seen.created[key_of(STARTED_TIMEOUT)] = [("a", LATE + 1)]
    assert "nobody waits for it" in wrong(seen)[0]


@pytest.mark.parametrize("task", STARTED, ids=lambda task: task.state or task.outcome)
def test_the_triggerer_stops_a_job_that_it_submitted_at_the_deadline_only(seen, task):
    seen.asked_to_stop[key_of(task)] = [LATE]
    assert len(wrong(seen)) == (task is not STARTED_TIMEOUT)
    seen.events[task.id] = [(LATE, {"outcome": "start"})]
    assert len(wrong(seen)) == 1, "a worker goes on with it"


def test_a_success_is_one_of_the_tasks_own_job(seen):
    for changes in ({"job_id": "another"}, {"results": {}}):
        seen.events[SUCCEEDED.id] = [(LATE, copy.deepcopy(event_of(SUCCEEDED)))]
        seen.events[SUCCEEDED.id][0][1]["xcoms"]["return_value"].update(changes)
        assert len(wrong(seen)) == 1
    seen.events[SUCCEEDED.id] = [(END - 1, event_of(SUCCEEDED))]
    assert "too early" in wrong(seen)[0]
    seen.events[SUCCEEDED.id] = [(LATE, {**event_of(FAILED), "job_state": "JOB_STATE_SUCCEEDED"})]
    assert len(wrong(seen)) == 1
    seen.events[FAILED.id] = [(LATE, event_of(SUCCEEDED))]
    assert len(wrong(seen)) == 2


def test_a_person_ends_a_task_that_started_in_the_triggerer(seen):
    key = key_of(STARTED_KILLED)
    seen.active, seen.stopped = [key], []
    assert any("not stopped, after 1 requests" in line for line in wrong(seen))
    seen.dropped[STARTED_KILLED.id] = {"outcome": "start"}
    assert not any(f"trigger {STARTED_KILLED.id} " in line for line in wrong(seen)), "its trigger had fired"
    seen.active = []
    seen.events[STARTED_KILLED.id] = [(LATE, event_of(FAILED))]
    assert any("an event of a task that was ended" in line for line in wrong(seen))


def test_a_job_that_is_submitted_when_airflow_had_given_up_the_trigger_is_wrong(seen):
    del seen.events[STARTED_TIMEOUT.id]
    seen.given_up[STARTED_TIMEOUT.id] = END
    assert wrong(seen) == []
    seen.active = [key_of(STARTED_TIMEOUT)]
    assert wrong(seen) == []
    seen.created[key_of(STARTED_TIMEOUT)] = [("a", END + 1)]
    assert "submitted after Airflow had given up" in wrong(seen)[0]


def test_a_triggerer_that_leaves_all_tasks_to_workers_is_wrong(seen):
    for task in SCHEDULE.tasks:
        if task.start and task.id in seen.events:
            seen.events[task.id] = [(LATE, {"outcome": "start"})]
    assert wrong(seen) == ["no task was"]


def test_a_trigger_that_failed_is_wrong(seen):
    seen.failures[FINISHED.id] = "ValueError"
    assert wrong(seen) == [f"trigger {FINISHED.id}: ValueError"]


@pytest.mark.parametrize(
    ("what", "held"),
    [
        ("threads", {"MainThread": 2}),
        ("threads", {"MainThread": 1, "busy in the pool": 1}),
        ("channels", {CHANNEL: 3}),
        ("tasks", {"TriggerRunner.arun": 1, "JobWatch._run": 1}),
    ],
    ids=str,
)
def test_what_is_left_over_is_wrong(seen, what, held):
    seen.after[what] = held
    assert len(wrong(seen)) == 1


def test_a_runner_that_does_not_say_what_it_holds_is_wrong(seen):
    seen.after = None
    assert wrong(seen) == ["the runner did not say what it holds"]


def test_a_run_without_chaos_is_wrong(seen):
    seen.faults = 0
    assert wrong(seen) == ["there was no chaos"]
