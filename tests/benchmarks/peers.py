"""The Google provider's triggers of the same kind, as they are but for credentials and TLS."""

from __future__ import annotations

from typing import Any

import grpc.aio
from airflow.providers.google.cloud.hooks.vertex_ai import custom_job, hyperparameter_tuning_job
from airflow.providers.google.cloud.triggers import vertex_ai
from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1.services.pipeline_service.transports import PipelineServiceGrpcTransport

from tests.benchmarks.kinds import service_address


def in_plaintext(client: Any) -> Any:
    """Make a client as the hook does, on a plaintext channel of its own."""

    def make(**_: Any) -> Any:
        transport = client.get_transport_class("grpc_asyncio")
        return client(transport=transport(channel=grpc.aio.insecure_channel(service_address())))

    return make


GoogleBaseHook.get_credentials = lambda _: AnonymousCredentials()
for module, name in (
    (custom_job, "PipelineServiceAsyncClient"),
    (hyperparameter_tuning_job, "JobServiceAsyncClient"),
):
    setattr(module, name, in_plaintext(getattr(module, name)))
# Vertex AI's SDK, which the operators submit by, makes the client of each request itself.
PipelineServiceGrpcTransport.create_channel = lambda *_, **__: grpc.insecure_channel(service_address())


class CustomTraining(vertex_ai.CustomTrainingJobTrigger):
    """As it is."""


class CustomContainerTraining(vertex_ai.CustomContainerTrainingJobTrigger):
    """As it is."""


class HyperparameterTuning(vertex_ai.CreateHyperparameterTuningJobTrigger):
    """As it is."""
