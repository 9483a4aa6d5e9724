"""How soon a watch sees an end, and for how many requests: the watch is real, the time is virtual.

So these figures depend on no machine. The benchmark measures the same in Airflow's own triggerer.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_nbjob.exceptions import ApiError, JobLost
from airflow_provider_nbjob.triggers.job_watch import JobWatch
from airflow_provider_nbjob.triggers.pace import Pace
from tests.benchmarks import hour
from tests.support.simulated_location import Run, SimulatedLocation, most_in_a_minute, simulate

NEVER = math.inf
QUOTA = ApiError("Quota exceeded", "RESOURCE_EXHAUSTED")
WAITING = 1000


def long_running(count: int, *, ends: Callable[[int], float] = lambda _: NEVER, within: float = 10.0) -> list[Run]:
    """Return jobs that have run for up to an hour when they are first waited for."""
    return [
        Run(f"j{n}", f"dag.task r{n}", within * n / count, ends(n), age=3600 * (1 - n / count)) for n in range(count)
    ]


# --- the figures ---


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("quiet", [20.0, 90.0])
def test_of_a_thousand_that_wait_an_end_is_seen_within_seconds(seed, quiet):
    """One in ten ends within a minute, after a time in which nothing changed: for 60 requests a minute at most."""
    ends = lambda n: quiet + 10 + 0.6 * n if n < WAITING / 10 else NEVER  # noqa: E731
    seen = simulate(long_running(WAITING, ends=ends), quiet + 80, seed=seed)
    assert len(seen.delays) == WAITING / 10
    assert seen.delay(0.95) <= 2.5
    assert most_in_a_minute(seen.requests) <= 60


def test_while_nothing_changes_a_watch_costs_what_it_costs_at_a_fixed_interval():
    """Nothing has ended for eleven minutes."""
    runs = long_running(WAITING)
    seen = simulate(runs, 950)
    with hour.fixed(10):
        at_interval = simulate(runs, 950)
    assert seen.calls_per_minute(700, 950) <= 12
    assert seen.calls_per_minute(700, 950) == pytest.approx(at_interval.calls_per_minute(700, 950), rel=0.1)
    assert seen.calls_per_minute(120, 300) < 25  # and on the way there


@pytest.mark.parametrize("is_known", [True, False])
def test_for_the_same_number_of_calls_ends_are_seen_in_half_the_time(is_known):
    """Twice in an hour 60 mapped tasks run for ten minutes, beside jobs that run for hours."""
    hours = [hour.compare(160, is_known=is_known, seed=seed).values() for seed in range(3)]
    for ours, as_many_calls, _ in hours:
        assert hour.calls_per_minute(as_many_calls) >= hour.calls_per_minute(ours)
        assert len(ours.delays) == len(as_many_calls.delays) == 120
        assert ours.delay(0.95) <= as_many_calls.delay(0.95) / 2
        assert ours.delay(0.95) <= 2.5
    ours_p50, theirs_p50 = (sum(seen.delay(0.5) for seen in kind) for kind in list(zip(*hours, strict=True))[:2])
    assert ours_p50 <= theirs_p50 / 2


def test_the_end_of_one_job_is_seen_soon_if_its_task_is_known():
    chance = random.Random(3)
    runs = [
        Run(f"j{n}", f"dag.task run{n}", 10 + 400 * n, 10 + 400 * n + chance.gauss(300, 10), age=2) for n in range(10)
    ]
    seen = simulate(runs, 4100)
    known = [f"j{n}" for n in range(2, 10)]  # after two of them
    assert seen.delay(0.95, known) <= 4
    assert seen.calls_per_minute(800, 4000) <= 15


def test_a_few_jobs_are_glanced_at_between_the_sweeps_that_read_them():
    runs = [Run(f"j{n}", "report", 0, 100 + 0.1 * n) for n in range(4)]
    delays = [simulate(runs, 150, seed=seed).delays for seed in range(10)]
    assert sum(delay[f"j{n}"] for delay in delays for n in range(4)) / 40 <= 2.5  # 5 at a fixed interval
    assert max(delay["j3"] for delay in delays) <= 10.2


# --- the interval, the budget ---


@pytest.mark.parametrize(("interval", "per_minute"), [(10.0, 60), (60.0, 60), (2.0, 60), (3600.0, 60), (10.0, 600)])
@pytest.mark.parametrize("count", [1, 4, 200])
def test_looks_are_never_further_apart_than_the_interval(count, interval, per_minute):
    ends = lambda n: 1000.0 if n == 0 else NEVER  # noqa: E731
    seen = simulate(long_running(count, ends=ends), 3 * interval + 2000, interval=interval, per_minute=per_minute)
    looks = [at for at in seen.requests if at > 30]
    gaps = [later - at for at, later in pairwise(looks)]
    # A look of several requests ends later than it begins.
    assert max(gaps) <= max(interval, 1.4) + (0.5 if per_minute == 60 and count == 4 else 0.2)


@pytest.mark.parametrize(("count", "interval", "longest"), [(100, 10.0, 140), (100, 600.0, 610), (30, 3600.0, 3610)])
def test_if_lists_are_refused_every_job_is_read_within_the_interval_or_as_the_budget_allows(count, interval, longest):
    def prepare(location: SimulatedLocation, _: Any) -> None:
        def refuse(**_: Any) -> Any:
            raise ApiError("not granted", "PERMISSION_DENIED")

        location.list_changes = refuse

    ends = lambda n: 8000.0 + 0.1 * n  # noqa: E731
    seen = simulate(long_running(count, ends=ends), 8100 + longest, interval=interval, prepare=prepare)
    assert len(seen.delays) == count
    assert max(seen.delays.values()) <= longest


def test_a_low_budget_keeps_looks_apart_and_a_long_interval_does_not():
    ends = lambda n: 100 + 2.0 * n if n < 50 else NEVER  # noqa: E731
    seen = simulate(long_running(200, ends=ends), 1000, interval=3600.0)
    assert seen.delay(0.5) < 2
    assert seen.calls_per_minute(100, 200) > 30
    seen = simulate(long_running(200, ends=ends), 1000, interval=3600.0, per_minute=6)
    assert most_in_a_minute(seen.requests) <= 6
    assert 5 < seen.delay(0.95) < 60


@settings(max_examples=20)
@given(st.data())
def test_whatever_happens_no_minute_has_more_requests_than_the_budget_and_every_end_is_seen(data):
    chance = random.Random(data.draw(st.integers(0, 10**6), label="seed"))
    per_minute = data.draw(st.sampled_from([1, 3, 10, 60, 300]), label="per minute")
    watches = data.draw(st.integers(1, 3), label="watches")
    count = data.draw(st.sampled_from([1, 3, 6, 150]), label="jobs")
    interval = data.draw(st.sampled_from([0.01, 1.0, 10.0, 60.0]), label="interval")
    fault_part = data.draw(st.sampled_from([0.0, 0.1, 0.5]), label="faults")
    jumps = data.draw(st.lists(st.sampled_from([5.0, 100.0, 5000.0]), max_size=2), label="jumps of the clock")
    runs = [Run(f"j{n}", f"dag.t{n % 7} r{n}", chance.uniform(0, 300), chance.uniform(300, 600)) for n in range(count)]
    at_all = []

    def prepare(location: SimulatedLocation, all_watches: list[JobWatch]) -> None:
        def fault() -> Exception | None:
            if location.clock.now > 1600 or chance.random() >= fault_part:
                return None
            return chance.choice([QUOTA, ApiError("down", "UNAVAILABLE"), ApiError("no", "PERMISSION_DENIED")])

        def look() -> None:
            at_all.append(asyncio.ensure_future(asyncio.gather(look_at_one(), return_exceptions=True)))

        async def look_at_one() -> None:
            await chance.choice(all_watches).look(f"j{chance.randrange(count)}")

        location.fault = fault
        loop = asyncio.get_running_loop()
        for _ in range(20):
            loop.call_later(chance.uniform(300, 600), look)
        for jump in jumps:
            loop.call_later(
                chance.uniform(0, 600), lambda by=jump: setattr(location.clock, "now", location.clock.now + by)
            )

    seconds = 900 + sum(jumps) + count * watches * 61 * 4 / per_minute + 4 * interval
    seen = simulate(
        runs, seconds, interval=interval, watches=watches, per_minute=per_minute, seed=chance.random(), prepare=prepare
    )
    assert most_in_a_minute(seen.requests) <= per_minute
    assert len(seen.delays) == count


@pytest.mark.parametrize("count", [1_000, 5_000])
def test_thousands_that_come_at_once_are_met_within_the_budget(count):
    seen = simulate(long_running(count, ends=lambda n: 5.0 if n % 10 == 0 else NEVER, within=0.0), 200)
    assert most_in_a_minute(seen.requests) <= 60
    assert len(seen.delays) == count / 10
    assert max(seen.delays.values()) < 20 + count / 100 * 61 / 45 * 1.5


def test_two_watches_of_a_project_share_its_budget_and_both_see_ends_soon():
    ends = lambda n: 200 + 0.6 * n if n < 100 else NEVER  # noqa: E731
    seen = simulate(long_running(WAITING, ends=ends), 290, watches=2)
    assert most_in_a_minute(seen.requests) <= 60
    assert seen.delay(0.95) <= 5


def test_last_looks_are_of_the_budget_too():
    gone = []

    def prepare(location: SimulatedLocation, watches: list[JobWatch]) -> None:
        async def look(number: int) -> None:
            try:
                await watches[0].look(f"j{number}")
            except ApiError as error:
                gone.append(error.code)
            except JobLost:
                gone.append("lost")

        def look_at_all() -> None:
            location.looks = [asyncio.ensure_future(look(number)) for number in range(500)]
            location.fault = lambda: JobLost("gone") if len(location.requests) % 3 else None

        asyncio.get_running_loop().call_later(100, look_at_all)

    seen = simulate(long_running(500), 300, prepare=prepare)
    assert most_in_a_minute(seen.requests) <= 60
    assert set(gone) <= {"lost", "DEADLINE_EXCEEDED"}


def test_a_machine_that_was_suspended_goes_on_within_the_budget():
    def prepare(location: SimulatedLocation, _: Any) -> None:
        asyncio.get_running_loop().call_later(100, location.clock.jump, 3600.0)

    seen = simulate(long_running(50, ends=lambda n: 3800.0 + n), 3900, prepare=prepare)
    assert most_in_a_minute(seen.requests) <= 60
    assert len(seen.delays) == 50
    assert seen.delay(0.95) <= 10.2


# --- requests fail ---


@pytest.mark.parametrize("seed", range(4))
def test_an_api_that_fails_at_random_puts_no_end_off_for_long(seed):
    """A sweep of ten pages comes to its end although three of ten requests fail, and an answer ends a back-off."""
    chance = random.Random(seed)

    def prepare(location: SimulatedLocation, _: Any) -> None:
        location.fault = lambda: ApiError("down", "UNAVAILABLE") if chance.random() < 0.3 else None

    runs = [Run(f"j{n}", f"dag.task r{n}", 0.2 * n, 5 + 0.2 * n) for n in range(WAITING)]
    seen = simulate(runs, 1000, seed=seed, prepare=prepare)
    assert len(seen.delays) == WAITING
    assert seen.delay(0.5) <= 30
    assert seen.delay(1.0) <= 120
    assert most_in_a_minute(seen.requests) <= 60


FAULTS = [ApiError("x", "INTERNAL"), ApiError("x", "DEADLINE_EXCEEDED"), ValueError("ours")]


@pytest.mark.parametrize("error", FAULTS, ids=repr)
@pytest.mark.parametrize("count", [4, 300])
def test_a_job_that_cannot_be_read_keeps_no_other_waiting(error, count):
    def prepare(location: SimulatedLocation, _: Any) -> None:
        shown, read = location.list_changes, location.get_notebook_execution_job

        def list_others(**asked: Any) -> Any:
            jobs, token = shown(**asked)
            return [job for job in jobs if job.job_id != "j1"], token

        def fail(*, name: str, **asked: Any) -> Any:
            if name.endswith("/j1"):
                raise error
            return read(name=name, **asked)

        location.list_changes, location.get_notebook_execution_job = list_others, fail

    ends = lambda n: NEVER if n == 1 or n >= 200 else 300.0 + n  # noqa: E731
    seen = simulate(long_running(count, ends=ends), 1000, prepare=prepare)
    assert len(seen.delays) == min(count, 200) - 1
    assert max(seen.delays.values()) <= (60 if count == 4 else 15)


@pytest.mark.parametrize("error", FAULTS, ids=repr)
@pytest.mark.parametrize("page", ["", "100", "300"])
def test_a_page_that_cannot_be_listed_keeps_nobody_waiting_for_good(error, page):
    """Most had ended before they were waited for, so no list of changes shows their ends."""

    def prepare(location: SimulatedLocation, _: Any) -> None:
        shown = location.list_changes

        def fail(*, page_token: str = "", **asked: Any) -> Any:
            if page_token == page:
                raise error
            return shown(page_token=page_token, **asked)

        location.list_changes = fail

    seen = simulate([Run(f"j{n}", f"dag.task r{n}", 0.0, 0.5) for n in range(500)], 1200, prepare=prepare)
    assert len(seen.delays) == 500


def test_after_an_outage_by_faults_jobs_are_listed_at_once():
    def prepare(location: SimulatedLocation, _: Any) -> None:
        began = location.clock.now
        down = lambda: 100 < location.clock.now - began < 7000  # noqa: E731
        location.fault = lambda: ApiError("down", "INTERNAL") if down() else None

    seen = simulate(long_running(WAITING, ends=lambda n: 6000.0 + n), 7500, prepare=prepare)
    assert len(seen.delays) == WAITING
    assert max(delay for job_id, delay in seen.delays.items() if int(job_id[1:]) > 900) <= 220


def test_an_outage_does_not_keep_a_newcomer_waiting_for_the_interval_of_others():
    def prepare(location: SimulatedLocation, _: Any) -> None:
        began = location.clock.now
        location.fault = lambda: ApiError("down", "UNAVAILABLE") if location.clock.now - began < 300 else None

    seen = simulate([Run("j0", "a", 0, 400), Run("j1", "b", 1, 400)], 4000, interval=86_400.0, prepare=prepare)
    assert len(seen.delays) == 2


def test_changes_of_others_do_not_keep_an_end_from_being_seen():
    """They change more jobs in a minute than the budget can list."""

    def prepare(location: SimulatedLocation, _: Any) -> None:
        def change(first: int) -> None:
            for number in range(first, first + 50):
                location.put(f"other{number % 1000}")
            asyncio.get_running_loop().call_later(5, change, first + 50)

        change(0)

    seen = simulate(long_running(60, ends=lambda n: 300.0 + n), 3000, per_minute=5, prepare=prepare)
    assert len(seen.delays) == 60
    assert most_in_a_minute(seen.requests) <= 5


def test_an_api_that_does_not_answer_is_asked_less_and_less():
    def prepare(location: SimulatedLocation, _: Any) -> None:
        location.fault = lambda: ApiError("down", "UNAVAILABLE")

    seen = simulate(long_running(WAITING), 3600, prepare=prepare)
    assert seen.calls_per_minute(0, 60) < 10
    assert seen.calls_per_minute(600, 3600) < 2


# --- the quota refuses ---


def test_a_quota_that_refuses_is_asked_less_and_the_pace_comes_back():
    refused = []

    def prepare(location: SimulatedLocation, _: Any) -> None:
        def fault() -> Exception | None:
            if 200 < location.clock.now - 1000 < 400:
                refused.append(location.clock.now - 1000)
                return QUOTA
            return None

        location.fault = fault

    ends = lambda n: 100 + 2.0 * n  # noqa: E731
    seen = simulate(long_running(700, ends=ends), 1600, prepare=prepare)
    assert seen.calls_per_minute(100, 200) > 35
    assert len(refused) < 15
    assert seen.calls_per_minute(430, 490) < 20
    assert 20 < seen.calls_per_minute(640, 700) < 40
    assert seen.calls_per_minute(1100, 1400) > 35
    assert len(seen.delays) == 700


def test_triggerers_that_were_refused_together_do_not_ask_together():
    paces = [Pace() for _ in range(20)]
    for one in paces:
        one.refuse(0.0)
        one.begin(0.0, is_sweep=True)
    for pauses in (
        [one.pause_after_failures(3, 10.0) for one in paces],
        [one.next_look(0.0, 10.0, 1.3, 1.0, waiting=100).pause for one in paces],
    ):
        assert len({round(pause, 2) for pause in pauses}) > 15
