"""The requests a minute that those share who look at one project and region."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.triggers import budget
from airflow_provider_nbjob.triggers.budget import Budget, budget_of
from airflow_provider_nbjob.triggers.job_watch import JobWatch, budget_for

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


@pytest.mark.parametrize("rate", ["0", "-1", "x", ""])
def test_a_rate_that_is_none_is_an_error_in_the_log(monkeypatch, caplog, rate):
    monkeypatch.setenv("AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE", rate)
    assert budget_of("p", "r").per_minute == budget.REQUESTS_PER_MINUTE == 60
    assert "is not valid, so it is 60" in caplog.text


def test_the_provider_s_info_tells_the_same_default():
    from airflow_provider_nbjob.get_provider_info import get_provider_info

    option = get_provider_info()["config"]["nbjob"]["options"]["max_requests_per_minute"]
    assert option["default"] == str(budget.REQUESTS_PER_MINUTE)
