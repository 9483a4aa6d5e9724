"""Read what OpenLineage's provider sends, by the provider itself."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.utils.state import TaskInstanceState
from openlineage.client.serde import Serde

RUN_ID = "01941f29-7c00-7087-8c0e-7e1a5f5b5e5e"


class _Client:
    transport = SimpleNamespace(kind="none")
    sent: dict[str, Any]

    def emit(self, event: Any) -> None:
        self.sent = json.loads(Serde.to_json(event))


def event_of(lineage: Any) -> dict[str, Any]:
    """Return the event that is sent of a task that fails with this lineage, without an error of Airflow's own."""
    client = _Client()
    OpenLineageAdapter(client).fail_task(  # type: ignore[arg-type]
        run_id=RUN_ID,
        job_name="d.t",
        end_time="2026-01-01T10:02:00+00:00",
        task=lineage,
        nominal_start_time=None,
        nominal_end_time=None,
        owners=None,
        tags=None,
        job_description=None,
    )
    return client.sent


def event_of_task(operator: Any, state: str) -> dict[str, Any]:
    """Return the event that is sent of a task which is in a state, see `event_of`."""
    lineage = ExtractorManager().extract_metadata(
        SimpleNamespace(run_id="r"), operator, TaskInstanceState[state], SimpleNamespace()
    )
    return event_of(lineage)


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return namespace and name of each dataset of an event."""
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def parameters(event: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of an event by name."""
    facet = event["run"]["facets"].get("executionParameters", {"parameters": []})
    return {one["key"]: one["value"] for one in facet["parameters"]}


def facet(event: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a facet of an event's run, without the fields that each facet has."""
    return {key: value for key, value in event["run"]["facets"][name].items() if not key.startswith("_")}
