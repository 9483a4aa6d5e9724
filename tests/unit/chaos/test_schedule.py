"""The schedule of `make chaos`: its seed repeats it, it has all kinds of trouble, and each task has one right end."""

from __future__ import annotations

import pytest

from airflow_provider_nbjob.lifecycle.cancellation import AWAITED_PAUSES
from tests.chaos.schedule import (
    CODES,
    CONNECTIONS,
    ENDS_OF_TASKS,
    FIRST,
    HANG,
    LOCATIONS,
    LOST,
    SLOW,
    TAIL,
    make_schedule,
)

SEEDS = [str(seed) for seed in range(20)]
LENGTHS = [1.0, 5.0]
each_run = pytest.mark.parametrize("minutes", LENGTHS)


@each_run
def test_a_seed_gives_the_same_schedule_again(minutes):
    # By their texts: a NaN among the bad intervals is not equal to itself.
    schedules = [str(make_schedule(seed, minutes)) for seed in SEEDS]
    assert schedules == [str(make_schedule(seed, minutes)) for seed in SEEDS]
    assert len(set(schedules)) == len(SEEDS)


@each_run
def test_two_hundred_tasks_wait_in_three_locations_over_two_connections(minutes):
    for seed in SEEDS:
        tasks = make_schedule(seed, minutes).tasks
        assert len({task.id for task in tasks}) == 200
        ways = {(task.location, task.connection) for task in tasks}
        assert ways == {(location, connection) for location in LOCATIONS for connection in CONNECTIONS}
        assert {task.outcome for task in tasks} == {"finished", "lost", "timeout", "stopped"}
        assert len({task.job for task in tasks}) < 200, "some wait for the same job"
        assert any(task.away for task in tasks)


@each_run
def test_about_a_third_of_the_tasks_start_in_the_triggerer(minutes):
    all_started = []
    for seed in SEEDS:
        tasks = make_schedule(seed, minutes).tasks
        started = [task for task in tasks if task.start]
        assert 200 / 4 < len(started) < 200 / 2
        assert any(task.start.is_taken_away for task in started)
        others = {task.job for task in tasks if not task.start}
        assert not others & {task.job for task in started}, "nobody else waits for their jobs"
        for task in started:
            assert type(task.interval) is float
            assert task.deadline is None or type(task.deadline) is float
        all_started += started
    assert {task.outcome for task in all_started} == {"finished", "lost", "timeout", "stopped"}
    assert any(task.killed and task.away for task in all_started), "some are ended as another triggerer takes them over"
    assert {fault for task in all_started for fault in task.start.create_faults} >= {LOST, SLOW, HANG}


@each_run
def test_an_airflow_whose_tasks_cannot_start_there_has_all_others(minutes):
    for seed in SEEDS:
        tasks = make_schedule(seed, minutes, starting=False).tasks
        assert not any(task.start for task in tasks)
        assert len(tasks) == 200


def test_a_record_can_be_asked_for_before_a_job_is_stopped():
    """A trigger that is to stop its job asks Airflow four times, and then stops it."""
    for seed in SEEDS:
        for task in make_schedule(seed, 5.0).tasks:
            assert len(task.start.read_faults if task.start else ()) + task.is_silent < len(AWAITED_PAUSES) + 1


def test_five_minutes_have_all_kinds_of_trouble():
    for seed in SEEDS:
        schedule = make_schedule(seed, 5.0)
        assert {code for *_, code in schedule.once} == set(CODES)
        assert {rotation.connection for rotation in schedule.rotations} == set(CONNECTIONS)
        assert {fault.connection for fault in schedule.connection_faults} == set(CONNECTIONS)
        assert {fault.location for fault in schedule.api_faults} == set(LOCATIONS)
        assert any(offset > 0 for _, offset in schedule.clock)
        assert any(offset < 0 for _, offset in schedule.clock)
    assert {task.killed_as for task in schedule.tasks} - {""} <= set(ENDS_OF_TASKS)


@each_run
def test_each_task_has_one_right_end(minutes):
    for seed in SEEDS:
        schedule = make_schedule(seed, minutes)
        last = schedule.ticks + TAIL
        for task in schedule.tasks:
            assert task.starts < schedule.ticks
            assert task.ends is None or FIRST < task.ends <= last
            assert task.killed is None or (task.starts < task.killed <= last and task.ends is None)
            assert not (task.killed and task.away and not task.start)
            for gone, back in task.away:
                assert task.starts < gone < back < (task.killed or schedule.ticks), "it is given back"
        killed = [task.job for task in schedule.tasks if task.killed is not None]
        assert len(killed) == len(set(killed)), "nobody else waits for a job that is stopped"


@each_run
def test_an_api_does_not_say_for_long_that_a_job_is_gone(minutes):
    for seed in SEEDS:
        assert "NOT_FOUND" not in {fault.how for fault in make_schedule(seed, minutes).api_faults}


def test_some_deadlines_are_of_triggers_that_start_while_the_clock_is_wrong():
    for seed in SEEDS:
        schedule = make_schedule(seed, 5.0)
        deadlines = [task for task in schedule.tasks if task.outcome == "timeout"]
        starts = [tick for task in deadlines for tick in (task.starts, *(back for _, back in task.away))]
        assert any(schedule.clock_offset(tick) for tick in starts)


@each_run
def test_at_the_end_the_connections_hold_what_the_api_accepts(minutes):
    for seed in SEEDS:
        schedule = make_schedule(seed, minutes)
        held, accepted = schedule.keys(schedule.ticks)
        assert held == accepted
