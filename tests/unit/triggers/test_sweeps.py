"""What a watch asks for and learns, against a service made of a list; there is no clock here but the service's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.triggers.sweeps import FEW, Change, ListPage, Page, Read, Seen, SweepPlan, next_request

RUNNING, SUCCEEDED = JobState.RUNNING, JobState.SUCCEEDED


class Service:
    """A location: jobs with their states and times, and a count of the requests."""

    def __init__(self, page_size: int = 100) -> None:
        self.time = 1000.0
        self.jobs: dict[str, Seen] = {}
        self.page_size = page_size
        self.hidden: set[str] = set()
        self.is_sorted = True
        self.begins_empty = False
        self.requests: list[ListPage | Read] = []

    def put(self, job_id: str, state: JobState = RUNNING) -> None:
        self.time += 0.01
        self.jobs[job_id] = Seen(job_id, state, self.time)

    def answer(self, request):
        self.requests.append(request)
        if isinstance(request, Read):
            return self.jobs.get(request.job_id)
        if self.begins_empty and not request.page_token:
            return Page([], "0")
        rows = [job for job in self.jobs.values() if job.job_id not in self.hidden]
        rows.sort(key=lambda job: -job.update_time if self.is_sorted else hash(job.job_id))
        start = int(request.page_token or 0)
        end = start + self.page_size
        return Page(rows[start:end], str(end) if end < len(rows) else "")


def sweep(plan: SweepPlan, service: Service, most: int = 60) -> list[Change]:
    """Run one sweep; what it learned."""
    service.time += 10
    requests, answer = plan.sweep(most), None
    while request := next_request(requests, answer):
        answer = service.answer(request)
    changes, plan.changes = plan.changes, []
    return changes


def watching(service: Service, count: int, prefix: str = "ours") -> SweepPlan:
    plan = SweepPlan()
    for n in range(count):
        service.put(f"{prefix}{n}")
        plan.add(f"{prefix}{n}")
    return plan


def sweep_until_all_are_seen(plan: SweepPlan, service: Service) -> None:
    while any(plan.last_seen(job_id) is None for job_id in service.jobs if job_id.startswith("ours")):
        sweep(plan, service)


def changed(service: Service, job_id: str) -> Change:
    """The change to what a job is now."""
    return Change(job_id, service.jobs[job_id])


def calls(service: Service) -> int:
    count = len(service.requests)
    service.requests.clear()
    return count


def test_an_empty_page_is_not_the_end_of_a_list():
    service = Service()
    plan = watching(service, 20)
    sweep_until_all_are_seen(plan, service)
    service.put("ours3", SUCCEEDED)
    service.begins_empty = True
    assert sweep(plan, service) == [changed(service, "ours3")]


def test_few_jobs_are_read():
    service = Service()
    plan = watching(service, FEW)
    assert len(sweep(plan, service)) == FEW
    assert all(isinstance(request, Read) for request in service.requests)


def test_many_jobs_cost_one_page_while_nothing_changes():
    service = Service()
    plan = watching(service, 1000)
    assert len(sweep(plan, service)) == 1000
    assert calls(service) == 10
    for _ in range(20):
        assert sweep(plan, service) == []
    assert calls(service) == 20 + 10  # every second one pays for one page of the audit
    assert all(isinstance(request, ListPage) for request in service.requests)


@pytest.mark.parametrize("foreign", [0, 100_000])
def test_a_sweep_costs_what_changed(foreign):
    service = Service()
    for n in range(foreign):
        service.put(f"foreign{n}", SUCCEEDED)
    plan = watching(service, 10_000)
    sweep_until_all_are_seen(plan, service)
    calls(service)
    ended = set()
    for minute_sweep in range(6):
        for n in range(100):
            service.put(f"ours{minute_sweep * 100 + n}", SUCCEEDED)
        ended |= {change.job_id for change in sweep(plan, service)}
    assert ended == {f"ours{n}" for n in range(600)}
    assert calls(service) <= 60


def test_jobs_below_a_hundred_thousand_others_are_read():
    service = Service()
    plan = watching(service, 50)
    for n in range(100_000):
        service.put(f"foreign{n}", SUCCEEDED)
    assert len(sweep(plan, service)) == 50
    assert calls(service) <= 54


def test_a_page_without_ours_does_not_end_the_search_for_many():
    service = Service()
    plan = watching(service, 100)
    for n in range(100):
        service.put(f"foreign{n}", SUCCEEDED)
    for n in range(100, 200):
        service.put(f"ours{n}")
        plan.add(f"ours{n}")
    assert len(sweep(plan, service)) == 200
    assert calls(service) == 3


def test_a_sweep_that_cannot_show_all_changes_does_not_look_again_for_what_it_has_shown():
    service = Service(page_size=10)
    plan = watching(service, 100)
    sweep_until_all_are_seen(plan, service)
    for n in range(100):
        service.put(f"ours{n}", SUCCEEDED)
    assert len(sweep(plan, service, most=4)) == 50  # by four pages, and one for those that these did not show
    calls(service)
    changes = []
    while len(changes) < 50:
        changes += sweep(plan, service)
    assert calls(service) <= 9


def test_a_newcomer_in_a_quiet_location_costs_no_listing_of_all():
    service = Service()
    plan = watching(service, 1000)
    sweep(plan, service)
    calls(service)
    service.put("late")
    plan.add("late")
    assert sweep(plan, service) == [changed(service, "late")]
    assert calls(service) <= 3  # one of them the audit's


@pytest.mark.parametrize("count", [3, 300])
def test_a_deleted_job_is_missed(count):
    service = Service()
    plan = watching(service, count)
    sweep(plan, service)
    del service.jobs["ours1"]
    found = [change for _ in range(30) for change in sweep(plan, service)]
    assert found == [Change("ours1", None)]
    assert (len(plan), plan.last_seen("ours1")) == (count - 1, None)


def test_a_listing_that_hides_a_job_loses_nothing():
    service = Service()
    plan = watching(service, 20)
    sweep(plan, service)
    service.hidden.add("ours7")
    service.put("ours7", SUCCEEDED)
    service.time += 100
    service.put("ours8", SUCCEEDED)
    found = [change for _ in range(60) for change in sweep(plan, service)]
    assert changed(service, "ours7") in found
    assert not plan.lists  # it is trusted no more


def test_a_listing_that_lags_takes_nothing_back():
    service = Service()
    plan = watching(service, 10)
    sweep(plan, service)
    before = service.jobs["ours1"]
    service.put("ours1", SUCCEEDED)
    assert sweep(plan, service) == [changed(service, "ours1")]
    service.jobs["ours1"] = before
    assert not [change for _ in range(10) for change in sweep(plan, service)]


def test_a_listing_without_order_is_given_up():
    service = Service()
    plan = watching(service, 20)
    service.is_sorted = False
    sweep(plan, service)
    assert not plan.lists
    assert {change.job_id for change in sweep(plan, service)} <= set(service.jobs)
    service.put("ours3", SUCCEEDED)
    assert sweep(plan, service) == [changed(service, "ours3")]


def test_reads_take_turns_within_the_budget():
    service = Service()
    plan = watching(service, 100)
    plan.lists = False
    for _ in range(5):
        sweep(plan, service, most=20)
    assert len({request.job_id for request in service.requests}) == 100
    assert calls(service) == 100


def test_a_job_that_left_is_not_asked_for():
    service = Service()
    plan = watching(service, 3)
    sweep(plan, service)
    plan.remove("ours1")
    service.put("ours1", SUCCEEDED)
    calls(service)
    assert sweep(plan, service) == []
    assert Read("ours1") not in service.requests


def test_a_sweep_that_was_given_up_half_way_loses_nothing():
    service = Service(page_size=10)
    plan = watching(service, 100)
    sweep(plan, service)
    for n in range(50):
        service.put(f"ours{n}", SUCCEEDED)
    half = plan.sweep(60)
    half.send(None)
    half.send(service.answer(ListPage("")))
    half.close()
    changes = [*plan.changes, *sweep(plan, service)]
    assert {change.job_id for change in changes} == {f"ours{n}" for n in range(50)}


def test_more_changes_than_the_budget_are_found_in_time():
    service = Service(page_size=10)
    plan = watching(service, 2000)
    sweep_until_all_are_seen(plan, service)
    for n in range(2000):
        service.put(f"ours{n}", SUCCEEDED)
    found = {change.job_id for _ in range(100) for change in sweep(plan, service, most=20)}
    assert len(found) == 2000


@given(st.data())
def test_every_change_is_learned_whatever_else_happens(data):
    """Jobs come, change, end, leave and are deleted between sweeps and within them; pages are small."""
    service = Service(page_size=data.draw(st.integers(1, 8)))
    plan, last, number = SweepPlan(), {}, 0
    chance = random.Random(data.draw(st.integers(0, 10**6)))

    def world() -> None:
        nonlocal number
        for _ in range(chance.randrange(4)):
            number += 1
            service.put(f"j{number}", RUNNING)
            if chance.random() < 0.6:
                plan.add(f"j{number}")
        for job_id in list(service.jobs):
            dice = chance.random()
            if dice < 0.05:
                del service.jobs[job_id]
            elif dice < 0.2:
                service.put(job_id, chance.choice([RUNNING, SUCCEEDED, JobState.FAILED]))

    for _ in range(data.draw(st.integers(1, 15))):
        world()
        service.time += 5
        requests, answer = plan.sweep(data.draw(st.integers(2, 20))), None
        while request := next_request(requests, answer):
            if chance.random() < 0.1:
                requests.close()  # the API did not answer
                break
            answer = service.answer(request)
            if chance.random() < 0.2:
                world()
        last.update((change.job_id, change.seen and change.seen.state) for change in plan.changes)
        plan.changes = []
    for _ in range(400):
        last.update((change.job_id, change.seen and change.seen.state) for change in sweep(plan, service))
    for job_id, state in last.items():
        if plan.last_seen(job_id) or state is None:
            assert state == (service.jobs[job_id].state if job_id in service.jobs else None)
    assert len(plan) == sum(plan.last_seen(f"j{n}") is not None for n in range(1, number + 1))
    calls(service)
    sweep(plan, service)
    assert calls(service) <= FEW or not plan.lists  # none is looked for any more
