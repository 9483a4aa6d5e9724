"""What stands in place of Airflow's API server in `make chaos`: it keeps records as the database does, and fails so."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest
from airflow.sdk.api.client import Client, ServerResponseError

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from tests.chaos.api_server import ApiServer
from tests.chaos.schedule import BROKEN, LOST, SILENT, Start, Task

STARTED = Task(7, "job-7", "l", "c", 0, None, None, start=Start(record_faults=(BROKEN, LOST), read_faults=(SILENT,)))
WAITING = Task(8, "job-8", "l", "c", 0, None, None)
OF_STARTED = {"dag_id": STARTED.dag_id, "run_id": "r", "task_id": "job"}
OF_WAITING = {"dag_id": "bench", "run_id": "r", "task_id": "wait", "map_index": WAITING.id}
RECORD = {"name": "projects/p/locations/l/notebookExecutionJobs/a"}


@pytest.fixture
def server() -> ApiServer:
    made = ApiServer({task.id: task for task in (STARTED, WAITING)}, Counter())
    made.states = {STARTED.id: "deferred", WAITING.id: "deferred"}
    return made


@pytest.fixture
def client(server) -> Client:
    made = Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(server.answer))
    made.base_url = "http://in-process.invalid./"
    return made


def test_each_task_is_found_by_what_airflow_asks(server):
    assert server.task_of(STARTED.dag_id, None) is STARTED
    assert server.task_of("bench", WAITING.id) is WAITING
    assert server.task_of("bench", None) is None


def test_a_record_is_kept_until_the_task_is_removed(server, client):
    assert client.xcoms.get(**OF_STARTED, key=JOB_XCOM_KEY).value is None
    client.xcoms.set(**OF_STARTED, key=JOB_XCOM_KEY, value=RECORD)
    assert client.xcoms.get(**OF_STARTED, key=JOB_XCOM_KEY).value == RECORD
    server.states[STARTED.id], server.records = "removed", {}
    with pytest.raises(ServerResponseError):
        client.xcoms.set(**OF_STARTED, key=JOB_XCOM_KEY, value=RECORD)
    assert not server.records


def test_a_task_whose_job_a_worker_submitted_has_a_record_from_the_beginning(client):
    assert client.xcoms.get(**OF_WAITING, key=JOB_XCOM_KEY).value["name"].endswith("/job-8")


@pytest.mark.parametrize("of_task", [OF_STARTED, OF_WAITING], ids=["started", "waiting"])
def test_a_task_that_waits_for_another_job_has_the_record_of_that(server, client, of_task):
    server.states = dict.fromkeys(server.states, "other")
    name = client.xcoms.get(**of_task, key=JOB_XCOM_KEY).value["name"]
    assert name.endswith("-again")


@pytest.mark.parametrize(("how", "is_kept"), [(BROKEN, False), (LOST, True)])
def test_a_record_that_is_not_confirmed_may_be_kept(server, how, is_kept):
    server.how = how
    asked = httpx.Request("POST", f"http://a/xcoms/{STARTED.dag_id}/r/job/{JOB_XCOM_KEY}", json=RECORD)
    assert server.answer(asked).status_code == 500
    assert (STARTED.id in server.records) is is_kept
    assert server.answer(asked).status_code == 201


def test_faults_come_in_their_order_and_once(server):
    assert [server.fault(STARTED, is_read=False) for _ in range(3)] == [BROKEN, LOST, ""]
    assert [server.fault(STARTED, is_read=True) for _ in range(2)] == [SILENT, ""]
    assert server.fault(WAITING, is_read=False) == ""


@pytest.mark.parametrize(("of_task", "key"), [(OF_STARTED, "job"), (OF_WAITING, "wait_8")], ids=["started", "waiting"])
def test_states_are_told_as_airflow_tells_them(server, client, of_task, key):
    asked = {"dag_id": of_task["dag_id"], "task_ids": [of_task["task_id"]], "run_ids": ["r"]}

    def told():
        return client.task_instances.get_task_states(**asked, map_index=of_task.get("map_index")).task_states

    assert told() == {"r": {key: "deferred"}}
    server.states = dict.fromkeys(server.states, "failed")
    assert told() == {"r": {key: "failed"}}
    server.states = dict.fromkeys(server.states, "removed")
    assert told() == {}
    server.silent = {STARTED.id, WAITING.id}
    with pytest.raises(ServerResponseError):
        told()
    assert told() == {}, "the next question is answered"
