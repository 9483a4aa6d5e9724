"""API clients: where they connect to, and one of each per process.

Making a client costs a credentials look-up, a TLS handshake and a channel, so those that agree in connection,
impersonation chain and endpoint share one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.google.common.consts import CLIENT_INFO
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials

from airflow_provider_nbjob.hooks.notebook_service import NotebookServiceClient, NotebookServiceGrpcTransport

if TYPE_CHECKING:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    from google.cloud import storage

EMULATOR_VARIABLE = "NBJOB_EMULATOR_HOST"


class Endpoint(NamedTuple):
    """Where the API is: ``host`` or ``host:port``, and whether it is spoken to in plaintext, without credentials."""

    address: str
    is_plaintext: bool

    def __str__(self) -> str:
        return f"http://{self.address}" if self.is_plaintext else self.address


def resolve_endpoint(location: str, configured: str | None) -> Endpoint:
    """The configured endpoint, else the emulator's, else the regional one of the universe domain.

    :param configured: ``host[:port]``, or ``http://host:port`` for plaintext
    """
    emulator = os.environ.get(EMULATOR_VARIABLE)
    if configured:
        is_plaintext = configured.startswith("http://")
        return Endpoint(configured.split("://")[-1].rstrip("/"), is_plaintext)
    if emulator:
        return Endpoint(emulator.removeprefix("http://").rstrip("/"), True)
    universe = os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or "googleapis.com"
    return Endpoint(f"{location}-aiplatform.{universe}", False)


class _PerProcess:
    """Keeps what `make` made for a hook's connection; a changed connection, or a forked process, gets its own."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._kept: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self._lock = threading.RLock()  # a signal handler may stop a job in the midst of a call

    def __call__(self, hook: GoogleBaseHook, *args: Any) -> Any:
        key = self._key(hook, *args)
        with self._lock:
            extras, client = self._kept.get(key, (None, None))
            if client is None or extras != hook.extras:
                client = self._make(hook, *args)
                self._kept[key] = (dict(hook.extras), client)
        return client

    def forget(self, hook: GoogleBaseHook, *args: Any) -> None:
        """Have the next call make a new one, with new credentials."""
        hook._cached_credentials = None
        with self._lock:
            self._kept.pop(self._key(hook, *args), None)

    @staticmethod
    def _key(hook: GoogleBaseHook, *args: Any) -> tuple[Any, ...]:
        chain = hook.impersonation_chain or hook._get_field("impersonation_chain") or ()
        accounts = chain.split(",") if isinstance(chain, str) else chain
        return (os.getpid(), hook.gcp_conn_id, tuple(account.strip() for account in accounts), *args)


def _plaintext_channel(endpoint: Endpoint) -> Any:
    import grpc

    from airflow_provider_nbjob.hooks.emulator_token import with_emulator_token

    # Channels to one address share their connections, so that a new client would go on with a dead one.
    channel = grpc.insecure_channel(endpoint.address, options=[("grpc.use_local_subchannel_pool", 1)])
    return with_emulator_token(channel, endpoint.address)


@_PerProcess
def notebook_service_client(hook: GoogleBaseHook, endpoint: Endpoint) -> NotebookServiceClient:
    """The client of `NotebookService` at an endpoint, over gRPC."""
    if endpoint.is_plaintext:
        hook.log.info("Talking to the API at %s in plaintext, without credentials", endpoint.address)
        return NotebookServiceClient(transport=NotebookServiceGrpcTransport(channel=_plaintext_channel(endpoint)))
    return NotebookServiceClient(
        credentials=hook.get_credentials(),
        client_info=CLIENT_INFO,
        client_options=ClientOptions(
            api_endpoint=endpoint.address,
            universe_domain=os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or None,
        ),
    )


@_PerProcess
def storage_client(hook: GoogleBaseHook) -> storage.Client:
    """The client of Cloud Storage; Google's own variable ``STORAGE_EMULATOR_HOST`` sends it to an emulator."""
    from google.cloud import storage  # not needed to submit and to wait

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project=hook._get_field("project") or "emulator", credentials=AnonymousCredentials())
    return storage.Client(project=hook.project_id, credentials=hook.get_credentials(), client_info=CLIENT_INFO)


@_PerProcess
def dataform_client(hook: GoogleBaseHook, endpoint: Endpoint) -> Any:
    """The client of Dataform; at a plaintext endpoint it is served beside the notebooks' API, as the emulator does."""
    from google.cloud.dataform_v1 import DataformClient  # needed where a notebook of a repository gets parameters
    from google.cloud.dataform_v1.services.dataform.transports import DataformGrpcTransport

    if endpoint.is_plaintext:
        return DataformClient(transport=DataformGrpcTransport(channel=_plaintext_channel(endpoint)))
    return DataformClient(credentials=hook.get_credentials(), client_info=CLIENT_INFO)
