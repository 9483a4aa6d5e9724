"""Lists of jobs: filters, orders and pages, in locations of their own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient

from airflow_provider_nbjob.emulator.service import canonical
from tests.support.emulator_jobs import PROJECT, create, job_name, make_job, template, wait_for_state

LOCATION = "asia-east1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
SCHEDULE = f"{PARENT}/schedules/123"
# id, display name, schedule; created in this order
JOBS = [("c-1", "beta", SCHEDULE), ("a-2", "alpha", ""), ("b-3", "alpha", SCHEDULE), ("d-4", 'say "hi" AND go', "")]

List = Callable[..., list[str]]


@pytest.fixture(scope="session")
def ids(client: NotebookServiceClient) -> List:
    """Ids of the jobs that a list request finds, in order; the four of `JOBS` exist, and have ended."""
    made = []
    for job_id, display_name, schedule in JOBS:
        job = make_job(
            display_name=display_name,
            schedule_resource_name=schedule or None,
            notebook_runtime_template_resource_name=template(location=LOCATION),
        )
        made.append(job_name(create(client, job, job_id, parent=PARENT)))
    for name in made:  # their update times change no more
        wait_for_state(client, name)

    def listed(**request: object) -> list[str]:
        found = client.list_notebook_execution_jobs(request={"parent": PARENT, **request})
        return [job.name.rpartition("/")[2] for job in found]

    return listed


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("", "a-2 b-3 c-1 d-4"),
        ('notebookExecutionJob="a-2"', "a-2"),
        ("notebook_execution_job=a-2", "a-2"),
        ('notebookExecutionJob!="a-2"', "b-3 c-1 d-4"),
        ('displayName="alpha"', "a-2 b-3"),
        ('display_name = "alpha"', "a-2 b-3"),
        ('displayName!="alpha"', "c-1 d-4"),
        ('displayName=~"^(al|be)"', "a-2 b-3 c-1"),
        ('displayName="ALPHA"', ""),
        (r'displayName="say \"hi\" AND go"', "d-4"),
        ("schedule=123", "b-3 c-1"),
        (f'schedule="{SCHEDULE}"', "b-3 c-1"),
        (f'scheduleResourceName="{SCHEDULE}"', "b-3 c-1"),
        ("schedule!=123", "a-2 d-4"),
        ('schedule=~"schedules/1\\d3$"', "b-3 c-1"),
        ("schedule=12", ""),
        ('schedule="1_3"', ""),
        ('schedule="%"', ""),
        ('displayName="alpha" AND schedule=123', "b-3"),
        ('notebookExecutionJob="gone"', ""),
    ],
)
def test_a_filter_finds(ids: List, condition: str, expected: str) -> None:
    assert sorted(ids(filter=condition)) == expected.split()


@pytest.mark.parametrize(
    "condition",
    [
        'jobState="JOB_STATE_FAILED"',
        "job_state=JOB_STATE_FAILED",
        'createTime>"2026-01-01T00:00:00Z"',
        'createTime="2026-01-01T00:00:00Z"',
        'labels.team="x"',
        'notebookExecutionJob=~"a.*"',
        'displayName>"a"',
        'displayName=~"("',
        "displayName",
        "displayName=",
        'displayName="a" OR displayName="b"',
        'displayName="a" displayName="b"',
        'displayName="a" AND',
        'NOT displayName="a"',
        '(displayName="a")',
        'displayName="open',
    ],
)
def test_a_filter_is_refused(ids: List, condition: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid filter"):
        ids(filter=condition)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("", "d-4 b-3 a-2 c-1"),
        ("create_time", "c-1 a-2 b-3 d-4"),
        ("createTime", "c-1 a-2 b-3 d-4"),
        ("create_time asc", "c-1 a-2 b-3 d-4"),
        ("createTime desc", "d-4 b-3 a-2 c-1"),
        ("display_name", "a-2 b-3 c-1 d-4"),
        ("displayName desc, create_time", "d-4 c-1 a-2 b-3"),
        ("display_name, create_time desc", "b-3 a-2 c-1 d-4"),
    ],
)
@pytest.mark.parametrize("page_size", [0, 1, 3])
def test_an_order_holds_over_all_pages(ids: List, order: str, expected: str, page_size: int) -> None:
    assert ids(order_by=order, page_size=page_size) == expected.split()


def test_the_update_time_orders_too(ids: List) -> None:
    assert ids(order_by="update_time desc") == ids(order_by="updateTime")[::-1]


@pytest.mark.parametrize("order", ["job_state", "create_time down", "create_time desc desc", ",", "create_time,,"])
def test_an_order_is_refused(ids: List, order: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid order_by"):
        ids(order_by=order)


def test_pages_are_as_long_as_was_asked(ids: List, client: NotebookServiceClient) -> None:
    request = {"parent": PARENT, "page_size": 3, "filter": "", "order_by": "create_time"}
    pages = list(client.list_notebook_execution_jobs(request=request).pages)
    assert [len(page.notebook_execution_jobs) for page in pages] == [3, 1]
    assert pages[0].next_page_token
    assert not pages[1].next_page_token


def test_a_full_last_page_has_no_token(ids: List, client: NotebookServiceClient) -> None:
    page = next(client.list_notebook_execution_jobs(request={"parent": PARENT, "page_size": 4}).pages)
    assert (len(page.notebook_execution_jobs), page.next_page_token) == (4, "")


def test_a_job_made_between_two_pages_moves_nothing(ids: List, client: NotebookServiceClient) -> None:
    request = {"parent": PARENT, "page_size": 2}
    first = next(client.list_notebook_execution_jobs(request=request).pages)
    job = make_job(notebook_runtime_template_resource_name=template(location=LOCATION))
    newer = job_name(create(client, job, "e-5", parent=PARENT))
    try:
        second = next(
            client.list_notebook_execution_jobs(request={**request, "page_token": first.next_page_token}).pages
        )
        assert [job.name.rpartition("/")[2] for job in second.notebook_execution_jobs] == ["a-2", "c-1"]
    finally:
        client.delete_notebook_execution_job(name=newer)


def make_token(last: object) -> str:
    """A token as nobody was given: right in form, with another content."""
    return base64.urlsafe_b64encode(json.dumps([last, [canonical(PARENT), "", ""]]).encode()).decode()


@pytest.mark.parametrize(
    "token",
    ["garbage", "äöü", "e30=", "W10=", "bnVsbA==", make_token([]), make_token(7), make_token([{}, {}])],
    ids=["text", "umlauts", "object", "empty", "null", "no key", "number for key", "objects for key"],
)
def test_a_token_that_was_never_given_is_refused(ids: List, token: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid page_token"):
        ids(page_token=token)


@pytest.mark.parametrize(
    "other",
    [
        {"filter": 'displayName="alpha"'},
        {"order_by": "display_name"},
        {"parent": PARENT.replace(LOCATION, "asia-east2")},
        {"parent": PARENT.replace(PROJECT, "another")},
    ],
)
def test_a_token_of_another_request_is_refused(ids: List, client: NotebookServiceClient, other: dict[str, str]) -> None:
    first = next(client.list_notebook_execution_jobs(request={"parent": PARENT, "page_size": 1}).pages)
    with pytest.raises(InvalidArgument, match="another filter or order"):
        ids(page_token=first.next_page_token, **other)


def test_a_token_goes_on_with_another_page_size(ids: List, client: NotebookServiceClient) -> None:
    first = next(client.list_notebook_execution_jobs(request={"parent": PARENT, "page_size": 1}).pages)
    assert ids(page_token=first.next_page_token, page_size=2) == ["b-3", "a-2", "c-1"]


@pytest.mark.parametrize("size", [-1, 101, 2**31 - 1])
def test_a_page_size_is_refused(ids: List, size: int) -> None:
    with pytest.raises(InvalidArgument, match=f"Invalid page_size: {size}"):
        ids(page_size=size)


def test_the_largest_page_is_accepted(ids: List) -> None:
    assert len(ids(page_size=100)) == 4


def test_a_location_lists_its_own_jobs_only(client: NotebookServiceClient, ids: List) -> None:
    assert not list(client.list_notebook_execution_jobs(parent=PARENT.replace(LOCATION, "asia-south2")))


@pytest.mark.parametrize(("view", "has_content"), [(0, False), (1, False), (2, True)])
def test_a_list_shows_jobs_as_the_view_says(
    client: NotebookServiceClient, ids: List, view: int, has_content: bool
) -> None:
    jobs = list(client.list_notebook_execution_jobs(request={"parent": PARENT, "view": view}))
    assert [bool(job.direct_notebook_source.content) for job in jobs] == [has_content] * 4
    assert all("direct_notebook_source" in job for job in jobs)
