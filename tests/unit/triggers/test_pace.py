"""When the next look is due: pure decisions, by a clock that is a number."""

from __future__ import annotations

import asyncio
import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.triggers import budget, pace
from airflow_provider_nbjob.triggers.budget import Budget
from airflow_provider_nbjob.triggers.pace import LOOK_SECONDS_MIN, Look, Pace
from airflow_provider_nbjob.triggers.sweeps import Seen
from tests.support.simulated_location import most_in_a_minute
from tests.support.virtual_time import Clock, run_at_virtual_time

STEP = 61 / 51  # seconds in which a budget of 60 a minute grants a request
LEAST = STEP / (1 - STEP / 10)  # seconds between two looks that are left when a sweep in 10 s is paid for
WALL = 1.7e9
RUNNING, SUCCEEDED = JobState.RUNNING, JobState.SUCCEEDED


def longest(_: float, most: float) -> float:
    """Return the longer one, in place of a random number."""
    return most


def paced(**changes: Any) -> Pace:
    """Return a pace whose pauses are not random, and that has just looked, at the time 0."""
    made = Pace(**{"chance": longest, **changes})
    made.begin(0.0, is_sweep=True)
    return made


def next_look(of: Pace, now: float = 0.0, **changes: Any) -> Look:
    given = {"interval": 10.0, "step": STEP, "level": 1.0, "waiting": 100, **changes}
    return of.next_look(now, **given)


def message(name: str = "dag.task run", created: float = WALL) -> Any:
    return SimpleNamespace(display_name=name, create_time=SimpleNamespace(seconds=int(created)))


def show(of: Pace, job_id: str, state: JobState = RUNNING, *, changed: float = WALL, now: float = 0.0, **job: Any):
    of.show([(Seen(job_id, state, changed), message(**job))], {"j"}, now=now, wall=WALL)


# --- when an end is likely ---


def test_while_nothing_is_known_and_nothing_happens_sweeps_are_an_interval_apart():
    assert next_look(paced()) == Look(10.0, is_sweep=True)
    assert next_look(paced(), interval=3600.0) == Look(3600.0, is_sweep=True)


@pytest.mark.parametrize(
    ("since_end", "seconds"),
    [(0, LEAST), (5, LEAST), (20, 1.73), (60, 3.0), (300, 6.7), (670, 10), (1e6, 10)],
)
def test_the_longer_nothing_ended_the_longer_are_the_pauses(since_end, seconds):
    quiet = paced()
    quiet.end(-since_end)
    assert next_look(quiet).pause == pytest.approx(seconds, rel=0.02)


def test_a_newcomer_of_which_nothing_is_known_is_looked_at_more_often_but_not_at_once():
    met = paced()
    show(met, "j")
    assert next_look(met).pause == pytest.approx(3.0, rel=0.02)
    met.begin(670, is_sweep=True)
    assert next_look(met, 670).pause == pytest.approx(10, rel=0.02)


def test_a_newcomer_whose_task_is_known_is_looked_at_when_it_is_likely_to_end():
    known = paced()
    for seconds in (590, 600, 610):
        known.durations.learn("dag.task earlier", seconds)
    show(known, "j")
    assert next_look(known).pause == 10
    pauses = {}
    for now in range(0, 800, 5):
        known.begin(now, is_sweep=True)
        pauses[now] = next_look(known, now).pause
    # Windows of 8 % around each duration: from 541 to 660 s.
    assert {now for now, pause in pauses.items() if pause < 9} == set(range(535, 665, 5))
    assert min(pauses.values()) < 3
    assert pauses[540] == pytest.approx(LEAST)  # a window opens within a second


def test_predictions_that_do_not_come_true_are_believed_less_and_less():
    wrong = paced()
    wrong.durations.learn("dag.task earlier", 1e6)
    for number in range(10_000):
        wrong.durations.add(f"j{number}", "dag.task run", -1e6)
    pauses = []
    for now in range(0, 3600, 2):
        wrong.begin(now, is_sweep=True)
        pauses.append(next_look(wrong, now).pause)
    assert pauses == sorted(pauses)
    assert [pauses[0], pauses[900], pauses[-1]] == pytest.approx([2.73, 10, 10], rel=0.02)
    wrong.end(3600)
    wrong.end(3600 - 1e6)  # not this one makes the next one likely
    wrong.begin(3600, is_sweep=True)
    assert next_look(wrong, 3600).pause == pytest.approx(2.73, rel=0.05)


def test_a_larger_budget_is_used():
    quiet = paced()
    quiet.end(-20)
    assert next_look(quiet, step=STEP / 10).pause == LOOK_SECONDS_MIN
    assert next_look(quiet, step=STEP * 10).pause == pytest.approx(10 * STEP)  # longer than the interval
    assert next_look(quiet, step=STEP * 2).pause == pytest.approx(2 * STEP / (1 - 2 * STEP / 10))


# --- the interval is an upper bound, the budget a lower one ---


def test_between_two_sweeps_are_glances():
    busy, now, looks = paced(), 0.0, []
    busy.end(0)
    while now < 30:
        look = next_look(busy, now)
        now += look.pause
        looks.append((now, look.is_sweep))
        busy.begin(now, is_sweep=look.is_sweep)
    sweeps = [at for at, is_sweep in looks if is_sweep]
    assert sweeps == pytest.approx([10, 20, 30], abs=1.5)
    assert len(looks) >= 20


def test_where_a_glance_shows_nothing_all_looks_are_sweeps():
    busy = paced()
    busy.end(0)
    assert next_look(busy, reads=1, waiting=1) == Look(pytest.approx(STEP), is_sweep=True)
    assert next_look(busy, reads=5, waiting=5, glances=False) == Look(pytest.approx(5 * STEP), is_sweep=True)
    assert next_look(busy, reads=50, glances=False) == Look(pytest.approx(50 * STEP), is_sweep=True)


def test_jobs_that_are_read_in_turns_are_each_read_within_the_interval():
    assert next_look(paced(), interval=600.0, reads=50, glances=False) == Look(300.0, is_sweep=True)


def test_a_sweep_that_reads_is_glanced_between():
    busy = paced()
    busy.end(0)
    for reads in (2, 5):
        assert next_look(busy, reads=reads, waiting=reads) == Look(
            pytest.approx(STEP / (1 - reads * STEP / 10)), is_sweep=False
        )
    assert next_look(busy, reads=9, waiting=9) == Look(
        pytest.approx(9 * STEP), is_sweep=True
    )  # all of the budget is needed


def test_as_the_burst_is_used_up_the_pauses_grow():
    busy = paced()
    busy.end(0)
    pauses = [next_look(busy, level=level).pause for level in (1, 0.9, 0.5, 0.3, 1 / 15)]
    assert pauses == pytest.approx([LEAST * 2 / (1 + level) for level in (1, 0.9, 0.5, 0.3, 1 / 15)])


def test_newcomers_that_were_left_are_met_by_the_next_sweep():
    assert next_look(paced(), is_behind=True) == Look(0.5, is_sweep=True)
    assert next_look(paced(), interval=0.1, is_behind=True) == Look(0.05, is_sweep=True)


def test_a_look_that_took_longer_than_its_pause_is_followed_by_a_short_one():
    busy = paced()
    busy.end(0)
    assert next_look(busy, 30.0) == Look(0.5, is_sweep=True)


FINITE = st.floats(0, 1e6)
SMALL = st.floats(1e-3, 86_400)


@given(
    st.data(),
    st.lists(st.tuples(st.sampled_from(["end", "refuse", "answer", "begin", "show", "leave", "learn"]), FINITE)),
)
def test_no_pause_is_longer_than_the_interval_unless_the_budget_says_so(data, steps):
    of, now, last = Pace(), 0.0, 0.0
    for what, number in steps:
        now += min(number, 1e4)
        if what == "begin":
            of.begin(now, is_sweep=data.draw(st.booleans()))
        elif what == "show":
            show(of, "j", data.draw(st.sampled_from([RUNNING, SUCCEEDED])), now=now, created=WALL - number)
        elif what == "leave":
            of.leave("j")
        elif what == "learn":
            of.durations.learn("dag.task run", number)
        else:
            getattr(of, what)(now)
        last = now
    interval, step = data.draw(SMALL), data.draw(st.floats(1e-4, 600))
    reads, now = data.draw(st.integers(0, 100)), last + data.draw(st.floats(-1e4, 1e4))
    look = next_look(
        of,
        now,
        interval=interval,
        step=step,
        level=data.draw(st.floats(0.01, 1)),
        reads=reads,
        waiting=data.draw(st.integers(1, 100)),
        glances=data.draw(st.booleans()),
        is_behind=data.draw(st.booleans()),
    )
    assert min(LOOK_SECONDS_MIN, interval) / 2 <= look.pause <= max(interval, max(1, reads) * step)


# --- what is learned ---


def test_the_durations_of_ended_jobs_are_learned_once():
    learning = paced()
    for _ in range(3):
        show(learning, "another", SUCCEEDED, changed=WALL + 600)
    assert learning.durations._learned == {"dag.task": [600.0]}
    show(learning, "a third", SUCCEEDED, changed=WALL + 700)
    assert learning.durations._learned == {"dag.task": [600.0, 700.0]}


@pytest.mark.parametrize("changed", [0.0, -1e300, 1e300, WALL + 1e6, WALL - 5, math.nan])
@pytest.mark.parametrize("created", [-(2**63), 0, 2**63 - 1, WALL])
@pytest.mark.parametrize("name", ["", "x" * 10**6, "\ud800", "dag.task run"])
def test_what_the_api_shows_may_be_anything(changed, created, name):
    hostile = paced()
    for state in (RUNNING, SUCCEEDED, JobState("JOB_STATE_99")):
        hostile.show([(Seen("j", state, changed), message(name, created))], {"j"}, now=0.0, wall=WALL)
        assert 0 < next_look(hostile).pause <= 10
    show(hostile, "another", SUCCEEDED, changed=WALL + 600)  # and what comes after it is learned
    assert hostile.durations._learned["dag.task"][-1] == 600


def test_a_job_whose_age_is_not_known_is_as_old_as_its_wait():
    learning = paced()
    learning.durations.learn("dag.task run", 600)
    show(learning, "j", created=0, now=100.0)
    assert learning.durations.outlook(100).opens_in == 450
    show(learning, "j", created=WALL + 1e6, now=100.0)  # it is known already
    assert learning.durations.outlook(100).opens_in == 450


# --- the quota refuses ---


def test_each_refusal_halves_the_pace_down_to_a_sixteenth():
    refused = paced()
    refused.end(0)
    pauses = []
    for _ in range(8):
        pauses.append(next_look(refused, interval=3600.0).pause)
        refused.refuse(0)
    assert pauses == pytest.approx([STEP * 2**n for n in (0, 1, 2, 3, 4, 4, 4, 4)], rel=0.01)
    assert next_look(refused).pause == 10  # the interval is an upper bound as soon as the API answers


def test_the_pace_grows_back_within_ten_minutes():
    refused = paced()
    for _ in range(10):
        refused.refuse(0)
    shares = []
    for now in range(0, 720, 60):
        refused.answer(now)
        shares.append(refused._share)
    assert shares == pytest.approx([min(1, 1 / 16 + minute / 10) for minute in range(12)])


def test_failures_are_backed_off_from_and_at_random():
    chances = random.Random(1)
    pauses = [Pace(chance=chances.uniform).pause_after_failures(failures, 10.0) for failures in range(1, 2000)]
    assert 5 <= pauses[0] <= 10 <= pauses[1] <= 20
    assert all(30 <= pause <= pace.FAILED_PAUSE_MAX for pause in pauses[5:])
    assert len({round(pause, 1) for pause in pauses[5:]}) > 200
    assert Pace(chance=longest).pause_after_failures(1, 3600.0) == pace.FAILED_PAUSE_MAX
    assert Pace(chance=longest).pause_after_failures(2, 0.001) == 0.002


# --- with a budget, for hours ---


async def look_for_hours(clock: Clock, shared: Budget, interval: float, chance: random.Random, looks: int):
    """Look by a pace, as `JobWatch` does; return when requests were sent, and the pauses that were no back-off."""
    of, member, sent, pauses, is_sweep = Pace(chance=chance.uniform), object(), [], [], True
    with shared.joined(member):
        for _ in range(looks):
            of.begin(clock.now, is_sweep=is_sweep)
            for _ in range(chance.choice([1, 1, 1, 2, 7]) if is_sweep else 1):
                await shared.turn(member)
                sent.append(clock.now)
                await asyncio.sleep(chance.expovariate(5))
            if chance.random() < 0.02:
                of.refuse(clock.now)
                pause, is_sweep = of.pause_after_failures(1, interval), True
            else:
                of.answer(clock.now)
                if chance.random() < 0.1:
                    of.end(clock.now)
                pause, is_sweep = next_look(
                    of,
                    clock.now,
                    interval=interval,
                    step=shared.step,
                    level=shared.level(member, clock.now),
                    is_behind=chance.random() < 0.05,
                )
                pauses.append(pause)
            await asyncio.sleep(pause)
    return sent, pauses


@given(
    st.integers(1, 4),
    st.sampled_from([1, 2, 10, 60, 600]),
    st.sampled_from([0.001, 1.0, 10.0, 600.0]),
    st.integers(0, 10**6),
)
def test_over_hours_the_budget_is_kept_and_no_pause_is_too_long(watches, per_minute, interval, seed):
    clock, shared, chance = Clock(), Budget(), random.Random(seed)
    shared.per_minute = per_minute

    async def scene():
        looks = (look_for_hours(clock, shared, interval, chance, 150) for _ in range(watches))
        return await asyncio.gather(*looks)

    results = run_at_virtual_time(scene(), clock, budget)
    assert most_in_a_minute(sorted(at for sent, _ in results for at in sent)) <= per_minute
    assert max(pause for _, pauses in results for pause in pauses) <= max(interval, watches * 61)
    if watches * 61 / per_minute < interval:
        assert max(pause for _, pauses in results for pause in pauses) <= interval
