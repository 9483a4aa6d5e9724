"""Names of Airflow that are no public API: they are there, and if one is not, no task is taken for one that is over."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_nbjob.airflow_compat import NotInThisAirflow, state_of_task, xcom_of_task
from airflow_provider_nbjob.lifecycle import cancellation
from tests.support.fake_service import JOB

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=2)


def test_the_names_are_in_this_airflow():
    assert supervisor.InProcessSupervisorComms.__name__ == "InProcessSupervisorComms"
    assert "SUPERVISOR_COMMS" in task_runner.__annotations__
    assert callable(RuntimeTaskInstance.get_task_states)
    assert callable(XCom.get_one)


def called_in_another_way() -> None:
    """Take none of the arguments."""


@pytest.fixture(params=["gone", "called in another way"])
def changed(request, monkeypatch):
    """Return a function that changes a name of Airflow's."""

    def change(owner: type, name: str) -> None:
        if request.param == "gone":
            monkeypatch.delattr(owner, name)
        else:
            monkeypatch.setattr(owner, name, called_in_another_way)

    return change


def test_a_name_that_has_changed_is_told_from_an_airflow_that_does_not_answer(changed):
    changed(RuntimeTaskInstance, "get_task_states")
    with pytest.raises(NotInThisAirflow, match="get_task_states"):
        state_of_task(TI)
    changed(XCom, "get_one")
    with pytest.raises(NotInThisAirflow, match="get_one"):
        xcom_of_task(TI, "key")


def test_a_worker_that_cannot_ask_leaves_the_job_to_the_next_try(changed, caplog):
    changed(RuntimeTaskInstance, "get_task_states")
    stopped = []
    cancellation.stop_unless_tried_again(TI, JOB, stop=lambda **_: stopped.append(JOB), log=logging.getLogger())
    assert not stopped
    assert "cannot be asked" in caplog.text


@pytest.mark.parametrize(("owner", "name"), [(RuntimeTaskInstance, "get_task_states"), (XCom, "get_one")])
def test_a_triggerer_that_cannot_ask_stops_nothing_and_says_how_to(changed, monkeypatch, caplog, owner, name):
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"r": {"t": "deferred"}})
    changed(owner, name)
    assert cancellation.is_awaited(TI, JOB, logging.getLogger())
    assert "gcloud colab executions delete" in caplog.text
