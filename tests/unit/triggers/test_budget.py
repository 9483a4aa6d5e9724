"""The requests a minute that those share who look at one project and region."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.triggers import budget
from airflow_provider_nbjob.triggers.budget import Budget, budget_of
from airflow_provider_nbjob.triggers.job_watch import JobWatch, budget_for
from tests.support.simulated_location import most_in_a_minute
from tests.support.virtual_time import Clock, run_at_virtual_time

LOCATION = "projects/p/locations/us-central1"


@pytest.fixture(autouse=True)
def _clean():
    budget._projects.clear()
    yield
    budget._projects.clear()


def no_hook():
    raise AssertionError("nobody asks")


def test_two_connections_to_one_project_share_its_budget():
    one, other = JobWatch(LOCATION, no_hook, "one"), JobWatch(LOCATION, no_hook, "other")
    assert one._budget is other._budget


@pytest.mark.parametrize("location", ["projects/q/locations/us-central1", "projects/p/locations/us-west1"])
def test_another_project_and_another_region_have_budgets_of_their_own(location):
    one, other = JobWatch(LOCATION, no_hook), JobWatch(location, no_hook)
    assert one._budget is not other._budget


def test_a_project_s_id_and_number_share_a_budget_once_an_answer_told_so():
    by_number = JobWatch("projects/5/locations/us-central1", no_hook, "another way")
    budget._projects["way"] = {"p": "5"}
    assert budget_for("way", "p", "us-central1") is by_number._budget
    assert budget_for("a third way", "p", "us-central1") is not by_number._budget


def test_those_who_look_have_equal_shares():
    shared = Budget()
    shared.per_minute = 60
    assert shared.seconds_for("a", 5) == 5
    shared.join("a")
    shared.join("b")
    assert shared.seconds_for("a", 5) == 10
    assert shared.requests_in("a", 10) == 5
    with shared.joined("b"):  # the same member twice has one share, which the two divide
        assert shared.seconds_for("b", 5) == 20
        assert shared.seconds_for("a", 5) == 10
    shared.leave("b")
    assert shared.seconds_for("a", 5) == 5


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=20), st.integers(1, 10**6))
def test_the_shares_together_are_never_more_than_the_budget(steps, per_minute):
    shared = Budget()
    shared.per_minute = per_minute
    counts = dict.fromkeys("abcd", 0)
    for member, joins in steps:
        if joins:
            shared.join(member)
            counts[member] += 1
        elif counts[member]:
            shared.leave(member)
            counts[member] -= 1
    rates = [count * 60 / shared.seconds_for(member, 1) for member, count in counts.items() if count]
    assert sum(rates) <= per_minute * 1.001
    assert len(set(shared._members)) == len(rates)


# --- turns ---


def send_all(shared: Budget, members: str, now: float = 0.0, until: float = 300.0) -> list[float]:
    """Return when the requests of members are sent that have always another one to send."""
    sent = []
    while now < until:
        ready = [member for member in members if shared.seconds_until_turn(member, now) == 0]
        if ready:
            shared.take(ready[0], now)
            sent.append(now)
        else:
            now += min(shared.seconds_until_turn(member, now) for member in members)
    return sent


@pytest.mark.parametrize("per_minute", [1, 2, 3, 4, 5, 7, 60, 61, 600])
@pytest.mark.parametrize("members", ["a", "ab", "abcdefg"])
def test_in_no_minute_are_more_requests_sent_than_the_budget_has(per_minute, members):
    shared = Budget()
    shared.per_minute = per_minute
    for member in members:
        shared.join(member)
    sent = send_all(shared, members)
    assert most_in_a_minute(sent) <= per_minute
    assert len(sent) >= 0.7 * per_minute * 300 / 60 - len(members)  # and it is used


def test_a_sixth_may_be_sent_at_once_and_is_there_again_after_a_pause():
    shared = Budget()
    shared.join("a")
    for _ in range(10):
        assert shared.seconds_until_turn("a", 0) == 0
        shared.take("a", 0)
    assert shared.seconds_until_turn("a", 0) == pytest.approx(61 / 51)
    assert shared.seconds_until_turn("a", 100) == 0
    assert shared.level("a", 0) == pytest.approx(1 / 10)
    assert shared.level("a", 5 * 61 / 51) == pytest.approx(6 / 10)
    assert [shared.requests_at_once("a", steps * 61 / 51 + 0.01) for steps in (0, 5, 9, 100)] == [1, 6, 10, 10]
    assert shared.level("a", 100) == 1


def test_the_burst_of_one_does_not_keep_another_waiting():
    shared = Budget()
    shared.join("a")
    shared.join("b")
    while not shared.seconds_until_turn("a", 0):
        shared.take("a", 0)
    assert shared.seconds_until_turn("b", 0) == 0
    assert (shared.step, shared.seconds_until_turn("a", 0)) == (2 * 61 / 51, pytest.approx(2 * 61 / 51))


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["join", "leave", "send"]), st.floats(0, 20))),
)
def test_the_bound_holds_whoever_comes_and_goes(per_minute, steps):
    shared, now, sent = Budget(), 0.0, []
    shared.per_minute = per_minute
    for member, step, pause in steps:
        now += pause
        if step == "join":
            shared.join(member)
        elif step == "leave":
            shared.leave(member)
        else:
            for _ in range(per_minute):
                if not shared.seconds_until_turn(member, now):
                    shared.take(member, now)
                    sent.append(now)
        assert 0 < shared.level(member, now) <= 1
    assert most_in_a_minute(sent) <= per_minute


def test_a_clock_that_goes_back_stops_nobody_for_long():
    shared = Budget()
    shared.join("a")
    send_all(shared, "a", now=1e6, until=1e6 + 100)
    assert shared.seconds_until_turn("a", 0) <= shared.step + 1e-6
    assert len(send_all(shared, "a", until=60)) > 40


def test_the_requests_are_remembered_when_all_have_left(monkeypatch):
    monkeypatch.delenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", raising=False)
    monkeypatch.setattr(budget, "_sent", {})
    sent = []
    for _ in range(5):
        shared = budget_of("p", "r")
        with shared.joined("a"):
            while not shared.seconds_until_turn("a", 0):
                shared.take("a", 0)
                sent.append(0)
        del shared
    assert len(sent) == 10


def test_requests_count_too_that_were_sent_by_the_project_s_other_name():
    by_id, by_number = Budget(), Budget()
    send_all(by_id, "a", until=50)
    by_number.take_all_of(by_id, 50)
    assert by_number.seconds_until_turn("b", 50) == pytest.approx(by_id.seconds_until_turn("a", 50))
    by_number.take_all_of(by_number, 50)  # it has both names
    assert by_number.seconds_until_turn("b", 50) == pytest.approx(by_id.seconds_until_turn("a", 50))


def test_a_turn_is_waited_for(monkeypatch):
    clock, shared, waits = Clock(), Budget(), []
    shared.per_minute = 4

    async def scene():
        started = clock.now
        for _ in range(3):
            await shared.turn("a", waits.append)
        return clock.now - started

    assert run_at_virtual_time(scene(), clock, budget) == pytest.approx(2 * 61 / 4, abs=0.1)
    assert waits[0] == pytest.approx(61 / 4)


def test_those_who_wait_for_a_turn_may_give_up(monkeypatch):
    clock, shared = Clock(), Budget()
    shared.per_minute = 1

    async def scene():
        await shared.turn("a")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(shared.turn("a"), 10)
        await shared.turn("a")
        return clock.now

    assert run_at_virtual_time(scene(), clock, budget) == pytest.approx(1_061, abs=0.1)


@pytest.mark.parametrize("rate", ["0", "-1", "x", ""])
def test_a_rate_that_is_none_is_an_error_in_the_log(monkeypatch, caplog, rate):
    monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", rate)
    assert budget_of("p", "r").per_minute == budget.REQUESTS_PER_MINUTE == 60
    assert "is not valid, so it is 60" in caplog.text


def test_the_provider_s_info_tells_the_same_default():
    from airflow_provider_nbjob.get_provider_info import get_provider_info

    option = get_provider_info()["config"]["nbjob"]["options"]["max_requests_per_minute"]
    assert option["default"] == str(budget.REQUESTS_PER_MINUTE)
