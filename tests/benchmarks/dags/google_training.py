"""The Google provider's training in a custom container, as it is but for credentials and TLS; see `peers`."""

from __future__ import annotations

from typing import Any

from airflow.providers.google.cloud.operators.vertex_ai.custom_job import CreateCustomContainerTrainingJobOperator

from tests.benchmarks import peers
from tests.benchmarks.kinds import VERTEX
from tests.benchmarks.whole_kinds import POLL_SECONDS, mapped


class InPlaintext(CreateCustomContainerTrainingJobOperator):
    """Defers with the trigger of `peers`."""

    def defer(self, *, trigger: Any, **kwargs: Any) -> None:
        trigger.trigger_class_path = f"{peers.__name__}.{peers.CustomContainerTraining.__name__}"
        super().defer(trigger=trigger, **kwargs)


for numbers in mapped("google-training"):
    InPlaintext.partial(
        task_id="task",
        project_id=VERTEX["project_id"],
        region=VERTEX["location"],
        container_uri="us-docker.pkg.dev/bench/images/training:latest",
        staging_bucket="gs://bench",
        deferrable=True,
        poll_interval=POLL_SECONDS,
    ).expand(display_name=[f"training {number}" for number in numbers])
