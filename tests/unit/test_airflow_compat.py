"""Names of Airflow that are no public API: they are there, and if one is not, no task is taken for one that is over."""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module
from inspect import signature
from types import ModuleType, SimpleNamespace
from typing import get_args

import pytest
import structlog
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_nbjob import airflow_compat
from airflow_provider_nbjob.airflow_compat import (
    NotInThisAirflow,
    is_tasks_test,
    read_connections_as_server,
    runs_in_process,
    secrets_maskers,
    state_of_task,
    why_end_on_worker,
    without_logs,
    xcom_of_task,
)
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.lifecycle import cancellation
from tests.support.airflow_versions import STARTS_IN_TRIGGERER
from tests.support.fake_service import JOB

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=2)


def test_the_names_are_in_this_airflow():
    assert supervisor.InProcessSupervisorComms.__name__ == "InProcessSupervisorComms"
    assert "SUPERVISOR_COMMS" in task_runner.__annotations__
    assert callable(RuntimeTaskInstance.get_task_states)
    assert {"key", "value", "dag_id", "task_id", "run_id", "map_index"} <= {*signature(XCom.set).parameters}
    assert callable(XCom.get_one)


def test_airflow_has_two_maskers_with_what_is_used_of_them():
    maskers = secrets_maskers()
    assert packages_of(maskers) == list(airflow_compat._MASKERS)
    for masker in maskers:
        signature(masker.should_hide_value_for_key).bind("name")
        signature(masker.redact).bind("text")
        assert isinstance(masker.replacer, re.Pattern | None)


def packages_of(maskers) -> list[str]:
    return [type(masker).__module__.rpartition(".")[0] for masker in maskers]


def test_a_worker_without_airflow_s_core_has_one_masker(monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow._shared.secrets_masker", None)
    assert packages_of(secrets_maskers()) == ["airflow.sdk._shared.secrets_masker"]


@pytest.mark.parametrize("module", airflow_compat._MASKERS)
def test_a_masker_that_cannot_be_had_is_an_error_and_not_a_text_with_secrets(monkeypatch, module):
    monkeypatch.delattr(import_module(module), "_secrets_masker")
    with pytest.raises(AttributeError, match="_secrets_masker"):
        secrets_maskers()


def test_a_process_whose_task_runner_is_gone_is_taken_for_a_worker(monkeypatch, caplog):
    """A worker's end does not say that its task is over: nothing that goes on is stopped."""
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    monkeypatch.setitem(sys.modules, task_runner.__name__, None)
    assert not runs_in_process()
    assert not is_tasks_test()
    assert "cannot be found out in this Airflow" in caplog.text
    with pytest.raises(NotInThisAirflow, match="task_runner"):
        state_of_task(TI)


@pytest.mark.parametrize("runs", [True, False])
def test_a_command_is_known_by_its_supervisor(monkeypatch, runs):
    comms = object.__new__(supervisor.InProcessSupervisorComms) if runs else object()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    assert runs_in_process() is runs


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
    cancellation.stop_unless_tried_again(
        TI, JobName.parse(JOB), stop=lambda **_: stopped.append(JOB), log=logging.getLogger()
    )
    assert not stopped
    assert "cannot be asked" in caplog.text


@pytest.mark.parametrize(("owner", "name"), [(RuntimeTaskInstance, "get_task_states"), (XCom, "get_one")])
def test_a_triggerer_that_cannot_ask_stops_nothing_and_says_how_to(changed, monkeypatch, caplog, owner, name):
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"r": {"t": "deferred"}})
    changed(owner, name)
    assert cancellation.is_awaited(TI, JobName.parse(JOB), logging.getLogger())
    assert "gcloud colab executions delete" in caplog.text


@pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="Airflow 3.3 is the first whose tasks can start there")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"inlets": ["asset"]}, "it has inlets or outlets"),
        ({"outlets": ["asset"]}, "it has inlets or outlets"),
        ({"has_on_success_callback": True}, "it has on_success_callback"),
        ({"iter_mapped_dependants": lambda: iter(["task"])}, "a task is mapped over what it returns"),
    ],
)
def test_what_airflow_leaves_out_if_a_task_ends_in_the_triggerer(monkeypatch, changes, expected):
    plain = {"inlets": [], "outlets": [], "has_on_success_callback": False, "iter_mapped_dependants": lambda: iter(())}
    ti = SimpleNamespace(map_index=-1, task=SimpleNamespace(**{**plain, **changes}))
    manager = import_module("airflow.sdk.listener").get_listener_manager()
    manager.clear()
    assert why_end_on_worker(ti) == expected
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "a.backend.OfOthers")
    assert why_end_on_worker(ti) == (expected or "this Airflow keeps XComs in a.backend.OfOthers")
    manager.add_listener(ModuleType("a_listener"))
    try:
        assert why_end_on_worker(ti) == (expected or "this Airflow has listeners, such as OpenLineage's")
    finally:
        manager.clear()


@pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="Airflow 3.3 is the first whose tasks can start there")
def test_the_triggerer_still_leaves_these_requests_without_an_answer():
    """Each name stands for a request that Airflow may answer one day: then its template need not go to a worker."""
    runner = import_module("airflow.jobs.triggerer_job_runner")
    asked = {
        *("GetPrevSuccessfulDagRun", "GetXComSequenceSlice", "GetPreviousDagRun", "GetTaskRescheduleStartDate"),
        *("GetTaskBreadcrumbs", "GetDag", "GetAssetEventByAsset", "GetTaskStateStore"),
    }
    answered = {kind.__name__ for kind in get_args(get_args(runner.ToTriggerSupervisor)[0])}
    assert "GetXCom" in answered
    assert not asked & answered
    comms = import_module("airflow.sdk.execution_time.comms")
    assert all(hasattr(comms, name) for name in asked)
    assert all(hasattr(RuntimeTaskInstance, name) for name in airflow_compat.UNANSWERED_OF_TASK)


# --- a command of Airflow's command line ---


def log_of_both_kinds() -> None:
    logging.getLogger("nbjob.standard").warning("of the standard library")
    structlog.get_logger("nbjob.structured").warning("of structlog")


def test_a_command_writes_no_logs(caplog, capsys):
    assert without_logs(lambda: (log_of_both_kinds(), 7)[1]) == 7
    assert caplog.records == []
    with pytest.raises(ValueError, match="odd"):
        without_logs(lambda: int("odd"))
    log_of_both_kinds()
    assert "of the standard library" in caplog.text + "".join(capsys.readouterr())


def test_a_command_reads_the_connections_of_the_database(monkeypatch):
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)

    def names_of_backends() -> list[str]:
        return [type(backend).__name__ for backend in supervisor.ensure_secrets_backend_loaded()]

    assert "MetastoreBackend" not in names_of_backends()
    read_connections_as_server()
    assert "MetastoreBackend" in names_of_backends()
