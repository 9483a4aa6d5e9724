"""The service of `make chaos`: it submits a job once, whatever it answers, and ends it as the schedule says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.cloud.aiplatform_v1 import types
from google.longrunning.operations_pb2 import Operation

from tests.chaos import service
from tests.chaos.schedule import HANG, LOCATIONS, LOST, SLOW, Schedule, Start, Task

PLACE = LOCATIONS[0]
TASK = Task(1, "job-1", PLACE, "c", 0, 5, "SUCCEEDED", start=Start())
KEY = f"{PLACE}/job-1"


class Aborted(Exception):
    """An answer that is an error."""


class Context:
    async def abort(self, code: grpc.StatusCode, _: str) -> None:
        raise Aborted(code.name)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(service, "SLOW_SECONDS", 0.01)


def api_of(*create_faults: str, **changes: Any) -> service.Api:
    task = replace(TASK, start=Start(create_faults=create_faults), **changes)
    api = service.Api(Schedule("s", 10, (task,), (), (), (), (), ()))
    api.be(0)
    return api


async def create(api: service.Api, job_id: str = "nbjob-a") -> str:
    job = types.NotebookExecutionJob(display_name="start-1.job chaos", labels={"a": "b"})
    asked = types.CreateNotebookExecutionJobRequest(
        parent=f"projects/p/locations/{PLACE}", notebook_execution_job=job, notebook_execution_job_id=job_id
    )
    answer = await api.create("c", types.CreateNotebookExecutionJobRequest.serialize(asked), Context())
    return Operation.FromString(answer).name


def test_a_job_is_submitted_with_the_id_that_the_client_gives():
    api = api_of()
    name = asyncio.run(create(api))
    assert name.split("/")[3:6] == [PLACE, "notebookExecutionJobs", "nbjob-a"]
    assert [job_id for job_id, _ in api.created[KEY]] == ["nbjob-a"]
    assert api.report()["active"] == [KEY]
    assert dict(api.locations[PLACE].updated["nbjob-a"].labels) == {"a": "b"}


def test_an_id_is_taken_once_and_for_all():
    api = api_of()
    asyncio.run(create(api))
    for _ in range(2):
        with pytest.raises(Aborted, match="ALREADY_EXISTS"):
            asyncio.run(create(api))
        api.locations[PLACE].updated.pop("nbjob-a", None)  # also of a job that was deleted
    asyncio.run(create(api, "nbjob-b"))
    assert [job_id for job_id, _ in api.created[KEY]] == ["nbjob-a", "nbjob-b"]


def test_a_create_that_is_refused_makes_no_job():
    api = api_of("PERMISSION_DENIED")
    with pytest.raises(Aborted, match="PERMISSION_DENIED"):
        asyncio.run(create(api))
    assert not api.created
    asyncio.run(create(api))


def test_a_create_whose_answer_is_lost_or_late_or_does_not_come_makes_one():
    api = api_of(LOST)
    with pytest.raises(Aborted, match="UNAVAILABLE"):
        asyncio.run(create(api))
    assert api.report()["active"] == [KEY]
    api = api_of(SLOW)
    asyncio.run(create(api))
    assert api.report()["active"] == [KEY]
    api = api_of(HANG)

    async def scene():
        creating = asyncio.ensure_future(create(api))
        while not api.created:
            await asyncio.sleep(0.01)
        assert not creating.done()
        api.be(10)  # when nothing goes wrong any more
        return await creating

    assert asyncio.run(scene())


def test_a_job_ends_when_it_is_its_time():
    api = api_of()
    asyncio.run(create(api))
    api.be(4)
    assert api.report()["active"] == [KEY]
    api.be(5)
    assert (api.report()["active"], list(api.ended)) == ([], [KEY])


def test_a_job_that_is_submitted_late_ends_at_once():
    api = api_of()
    api.be(7)
    asyncio.run(create(api))
    api.be(8)
    assert list(api.ended) == [KEY]


@pytest.mark.parametrize("state", [None, "CANCELLED"])
def test_a_job_is_deleted_or_cancelled_by_a_stranger_when_its_task_knows_of_it(state):
    api = api_of(state=state)
    asyncio.run(create(api))
    api.be(9)
    assert api.report()["active"] == [KEY]
    api.be(9, [TASK.id])
    assert (api.report()["active"], list(api.ended)) == ([], [KEY])
