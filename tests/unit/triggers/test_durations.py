"""What is learned of the durations of runs, and what it predicts."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.triggers import durations
from airflow_provider_nbjob.triggers.durations import DURATION_MAX, RUNS_MAX, TASKS_MAX, Durations, Outlook, task_of

NOTHING = Outlook(0.0, math.inf)


def knowing(*seconds: float, name: str = "dag.task run") -> Durations:
    learned = Durations()
    for one in seconds:
        learned.learn(name, one)
    return learned


def tries(**changes) -> Tries:
    given = {"dag_id": "dag", "run_id": "r", "run_start": datetime(2026, 1, 1, tzinfo=timezone.utc), "task_id": "task"}
    return Tries(**{**given, "map_index": -1, "current": 1, "first": 1, **changes})


# --- whose run it is ---


@pytest.mark.parametrize("map_index", [-1, 0, 999])
@pytest.mark.parametrize("run_id", ["scheduled__2026-01-01T00:00:00+00:00", "manual run by hand", "r" * 250])
@pytest.mark.parametrize("dag_id", ["dag", "a.dag-2", "d" * 60])
def test_all_runs_of_a_task_are_of_one_task(dag_id, run_id, map_index):
    name = tries(dag_id=dag_id, run_id=run_id, map_index=map_index).default_display_name
    assert task_of(name) == f"{dag_id}.task"


def test_other_tasks_are_others():
    names = [tries(**{field: "other"}).default_display_name for field in ("dag_id", "task_id")]
    assert len({task_of(name) for name in [*names, tries().default_display_name]}) == 3


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Daily report 2026-01-01", "Daily report 2026-11-30", True),
        ("Daily report", "Daily training", False),
        ("run-17", "run-3", True),
        ("report", "report", True),
        ("x" * 10**7 + "1", "x" * 10**7 + "2", True),
        ("", " ", False),
    ],
)
def test_a_name_of_the_user_s_own_is_a_task_but_for_its_digits(one, other, is_same):
    assert (task_of(one) == task_of(other)) is is_same
    assert len(task_of(one)) <= durations.NAME_MAX


@given(st.text(), st.text())
def test_any_text_is_a_name(one, other):
    assert task_of(one) == task_of(one)
    assert len(task_of(one + other)) <= durations.NAME_MAX


# --- what is predicted ---


def test_of_an_unknown_task_nothing_is_expected():
    learned = knowing(600)
    assert not learned.add("j", "another.task run", 0)
    assert learned.outlook(600) == NOTHING


def test_one_run_predicts_the_next_one_roughly():
    learned = knowing(600)
    assert learned.add("j", "dag.task another run", 1000)
    assert learned.outlook(1000) == Outlook(0.0, 450)
    assert learned.outlook(1449) == Outlook(0.0, 1)
    assert learned.outlook(1600) == Outlook(pytest.approx(1 / 300), math.inf)
    assert learned.outlook(1751) == NOTHING


def test_several_runs_predict_the_next_one_closely():
    learned = knowing(*[600] * 5)
    learned.add("j", "dag.task another run", 0)
    assert learned.outlook(0).opens_in == 570
    assert learned.outlook(569).rate == 0
    assert learned.outlook(600).rate > 1 / 60
    assert learned.outlook(631) == NOTHING


def test_runs_that_fail_early_and_runs_that_succeed_have_windows_of_their_own():
    learned = knowing(*[60] * 3, *[3600] * 3)
    learned.add("j", "dag.task another run", 0)
    assert [learned.outlook(age).rate > 0 for age in (0, 60, 600, 1800, 3600, 5000)] == [
        *(False, True, False, False, True, False)
    ]
    assert learned.outlook(100).opens_in == pytest.approx(3600 - 180 - 100)


def test_the_expectations_of_all_that_wait_add_up():
    learned = knowing(600)
    for number in range(100):
        learned.add(f"j{number}", f"dag.task [{number}] run", number * 2.0)
    assert learned.outlook(600).rate == pytest.approx(76 / 300)  # 25 are younger than 450 s
    for number in range(50):
        learned.remove(f"j{number}")
    assert learned.outlook(600).rate == pytest.approx(26 / 300)
    assert learned.outlook(600).opens_in == pytest.approx(2)


def test_a_run_that_ends_predicts_those_that_wait_already():
    learned = Durations()
    learned.add("j", "dag.task [1] run", 0)
    learned.learn("dag.task [0] run", 100)
    assert learned.outlook(100).rate > 0


# --- what is no duration, and how much is kept ---


@pytest.mark.parametrize("seconds", [0, -1, -1e18, math.nan, math.inf, -math.inf, DURATION_MAX + 1, 1e300])
def test_what_is_no_duration_is_ignored(seconds):
    learned = knowing(seconds)
    assert not learned.add("j", "dag.task run", 0)


def test_so_many_tasks_are_kept_and_so_many_runs_of_each():
    learned = Durations()
    for number in range(2 * TASKS_MAX):
        for seconds in range(1, 2 * RUNS_MAX):
            learned.learn(f"dag.t{number} run", seconds)
        learned.learn("dag.often run", 5)
    assert len(learned._learned) == TASKS_MAX == 500
    assert {len(runs) for runs in learned._learned.values()} == {RUNS_MAX} == {8}
    assert learned.add("j", "dag.often run", 0)  # it was learned of again and again
    assert not learned.add("k", "dag.t0 run", 0)
    assert learned._learned[f"dag.t{2 * TASKS_MAX - 1}"] == [float(n) for n in range(RUNS_MAX, 2 * RUNS_MAX)]


def test_a_job_is_expected_once_and_may_be_unknown():
    learned = knowing(600)
    learned.add("j", "dag.task run", 0)
    learned.add("j", "dag.task run", 100)
    assert learned.outlook(600).rate == pytest.approx(1 / 300)
    learned.remove("j")
    learned.remove("j")
    assert "j" not in learned
    assert not learned._waiting
    assert learned.outlook(600) == NOTHING


NUMBERS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1e-300, 1e300, math.inf, -math.inf])


@given(st.lists(st.tuples(st.sampled_from("alrn"), st.text(max_size=5), NUMBERS), max_size=40), NUMBERS)
def test_nothing_is_raised_whatever_is_given(steps, now):
    learned = Durations()
    for step, name, number in steps:
        if step == "a":
            learned.add(name, name, number)
        elif step == "l":
            learned.learn(name, number)
        elif step == "r":
            learned.remove(name)
        outlook = learned.outlook(number if step == "n" else now)
        assert outlook.rate >= 0
        assert outlook.opens_in >= 0
    assert sum(len(waiting.starts) for waiting in learned._waiting.values()) == len(learned._starts)
    assert all(waiting.starts == sorted(waiting.starts) for waiting in learned._waiting.values())
