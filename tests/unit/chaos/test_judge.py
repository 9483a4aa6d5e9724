"""The judge of `make chaos` finds what is wrong with a run, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.chaos.judge import CHANNEL, Seen, judge
from tests.chaos.schedule import Schedule, make_schedule

START, END, LATE = 1000.0, 2000.0, 3000.0
BEFORE: dict[str, Any] = {"threads": {"MainThread": 1}, "channels": {CHANNEL: 0}, "tasks": {"TriggerRunner.arun": 1}}
SCHEDULE = make_schedule("judge", 2.0)
TASKS = {outcome: [t for t in SCHEDULE.tasks if t.outcome == outcome] for outcome in ("finished", "lost", "timeout")}
KILLED = next(task for task in SCHEDULE.tasks if task.outcome == "stopped")
FINISHED, LOST, TIMEOUT = (TASKS[outcome][0] for outcome in ("finished", "lost", "timeout"))


def event_of(task) -> dict[str, Any]:
    state = f"JOB_STATE_{task.state}" if task.outcome == "finished" else None
    return {
        "name": f"projects/chaos/locations/{task.location}/notebookExecutionJobs/{task.job_id}",
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
        faults=1,
        before=copy.deepcopy(BEFORE),
        after={**copy.deepcopy(BEFORE), "channels": {CHANNEL: 2}},
    )


def wrong(seen: Seen, schedule: Schedule = SCHEDULE) -> list[str]:
    return [line for finding in judge(schedule, seen) for line in finding.wrong]


def test_a_run_in_which_all_went_right_is_right(seen):
    findings = judge(SCHEDULE, seen)
    assert all(finding.is_right for finding in findings), wrong(seen)
    assert sum(finding.of for finding in findings[:4]) == len(SCHEDULE.tasks), "each task is judged once"


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
