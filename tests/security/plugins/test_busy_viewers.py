"""One viewer, or one place of Google's that hangs, leaves room for all others; what is under way is shared."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.security.plugins.site import DAG, QUERY, cell, notebook, record_of
from tests.support.patience import patient, wait_until

pytestmark = pytest.mark.test_all

REFUSED = "Too many requests wait"
READS = ("TASK_INSTANCE", "XCOM", "TASK_LOGS")


@pytest.fixture
def hanging(site):
    """Tasks whose jobs are read by nobody until the gate is open, and threads of people who look at them."""
    site.people.add("admin", *READS)
    for index in range(12):
        site.job(site.name(site.job_id(map_index=index)), notebook=notebook(cell()))
        record = record_of(site.name(site.job_id(map_index=index)), job_state="JOB_STATE_SUCCEEDED")
        site.task(record, map_index=index, fields={"gcp_conn_id": f"connection_{index % 4}"})
    site.service.gate.clear()
    with ThreadPoolExecutor(40) as pool:
        site.pool = pool
        try:
            yield site
        finally:
            site.service.gate.set()


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    for index in range(4):
        connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}'
        monkeypatch.setenv(f"AIRFLOW_CONN_CONNECTION_{index}", connection)


def look(site, index, user="admin", path="task"):
    return site.pool.submit(site.get, f"{path}?{QUERY}&map_index={index}", user=user)


def waiting(site, number):
    wait_until(lambda: len(site.service.asked) >= number, timeout=20, what=f"{number} requests", interval=0.01)


def assert_answered(answers, what):
    wait_until(lambda: all(answer.done() for answer in answers), timeout=5, what=what, interval=0.01)
    return [answer.result() for answer in answers]


@pytest.mark.parametrize("path", ["task", "notebook"])
def test_one_user_holds_two_threads_and_no_more(hanging, path):
    held = [look(hanging, index, path=path) for index in range(2)]
    waiting(hanging, 2)
    refused = assert_answered([look(hanging, index, path=path) for index in range(2, 10)], "those over the limit")
    assert all(REFUSED in answer.text for answer in refused)
    assert {answer.status_code for answer in refused} == {200 if path == "task" else 503}
    assert len(hanging.service.asked) == 2
    if path == "task":  # what was recorded is shown at once, and the page looks again by itself
        assert all('data-state="JOB_STATE_SUCCEEDED"' in answer.text for answer in refused)
        assert all('data-refresh-seconds="10"' in answer.text for answer in refused)
    another = look(hanging, 3, user=hanging.people.add("another", *READS), path=path)
    waiting(hanging, 3)
    hanging.service.gate.set()
    assert REFUSED not in another.result(patient(20)).text
    assert all(REFUSED not in answer.result(patient(20)).text for answer in held)


def test_a_place_that_hangs_leaves_threads_to_others(hanging):
    users = [hanging.people.add(f"user-{number}", *READS) for number in range(6)]
    for number, index in enumerate((0, 4, 8, 0)):  # of one connection; the last joins the first
        look(hanging, index, user=users[number])
    waiting(hanging, 3)
    look(hanging, 0, user=users[3], path="notebook")
    waiting(hanging, 4)
    (refused,) = assert_answered([look(hanging, 4, user=users[4], path="notebook")], "the fifth of one connection")
    assert REFUSED in refused.text
    look(hanging, 1, user=users[4])
    waiting(hanging, 5)


@pytest.mark.parametrize("path", ["task", "notebook"])
def test_many_who_look_at_one_job_are_one_request(hanging, path):
    users = [hanging.people.add(f"user-{number}", *READS) for number in range(10)]
    answers = [look(hanging, 5, user=user, path=path) for user in users * 3]
    waiting(hanging, 1)
    hanging.service.gate.set()
    statuses = {answer.result(patient(30)).status_code for answer in answers}
    assert statuses == {200}
    assert REFUSED not in "".join(answer.result().text for answer in answers)
    assert len(set(hanging.service.asked)) == 1
    assert len(hanging.service.asked) <= 3  # those who came after the first answer


def test_those_who_may_see_less_share_no_answer_with_those_who_see_more(hanging):
    hanging.people.add("less", "TASK_INSTANCE")
    more, less = look(hanging, 6), look(hanging, 6, user="less")
    waiting(hanging, 2)
    hanging.service.gate.set()
    assert "may not read XComs" not in more.result(patient(20)).text
    assert "may not read XComs" in less.result(patient(20)).text


def test_a_thread_that_hangs_counts_until_it_ends():
    import asyncio

    from airflow_provider_nbjob.plugins.notebook_jobs.bounded_executor import BoundedExecutor, TookTooLong

    gate = threading.Event()

    async def scene():
        bounded = BoundedExecutor(seconds=0.05, threads=4, at_once={"user": 1})
        for number in range(2):
            with pytest.raises(TookTooLong, match="did not answer"):
                await bounded.run(gate.wait, key="same", claims={"user": "a"})
            with pytest.raises(TookTooLong, match="Too many"):
                await bounded.run(gate.wait, key=number, claims={"user": "a"})
        assert await bounded.run(lambda: 7, claims={"user": "b"}) == 7
        gate.set()

    asyncio.run(scene())


def test_an_error_is_shared_and_not_kept():
    import asyncio

    from airflow_provider_nbjob.plugins.notebook_jobs.bounded_executor import BoundedExecutor

    async def scene():
        bounded = BoundedExecutor(seconds=patient(5), threads=2)
        for _ in range(3):
            answers = await asyncio.gather(
                *(bounded.run({}.popitem, key="k") for _ in range(3)), return_exceptions=True
            )
            assert {type(answer) for answer in answers} == {KeyError}
        assert await bounded.run(lambda: 1, key="k") == 1

    asyncio.run(scene())


def test_a_listing_waits_for_nobody(hanging):
    for index in range(2):
        look(hanging, index)
    waiting(hanging, 2)
    assert hanging.get(f"?dag_id={DAG}").status_code == 200
