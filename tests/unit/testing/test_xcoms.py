"""The XComs of a run are what a task that pulls them would get."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import xcom

from airflow_provider_nbjob.testing.airflow_compat import _value_of


class Elsewhere(BaseXCom):
    """A backend that keeps values in another place, of which the database has the address."""

    @staticmethod
    def serialize_value(value: Any, **_: Any) -> Any:
        return f"elsewhere:{value['name']}"

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        return {"name": result.value.removeprefix("elsewhere:")}


def stored(value: Any, backend: type[BaseXCom] = BaseXCom) -> Any:
    return SimpleNamespace(value=backend.serialize_value(value))


@pytest.mark.parametrize(
    "value", ["123", "true", '{"a": 1}', "", 123, None, {"a": [1]}, (1, 2), datetime(2026, 1, 1, tzinfo=timezone.utc)]
)
def test_a_value_is_the_one_that_the_task_returned(value: Any) -> None:
    assert _value_of(stored(value)) == value
    assert type(_value_of(stored(value))) is type(value) or isinstance(value, datetime)


def test_the_backend_of_xcoms_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xcom, "XCom", Elsewhere)
    assert _value_of(stored({"name": "a job"}, Elsewhere)) == {"name": "a job"}


def test_a_value_that_no_task_could_pull_is_as_it_is_stored() -> None:
    value = {"__classname__": "mine.NotListed", "__version__": 1, "__data__": {}}
    assert _value_of(SimpleNamespace(value=value)) == value
