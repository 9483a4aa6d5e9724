"""Make API clients, and choose the endpoints that they connect to.

Credentials go to the hosts that the administrator allows, and to no other. `resolve_endpoint` is the one place that
makes a host of what a DAG, a connection or a record says; a test holds that no other module of the package does.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import conf
from airflow.providers.google.common.consts import CLIENT_INFO
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.hooks.emulator_token import HOST_VARIABLE, is_loopback, with_emulator_token
from airflow_provider_nbjob.hooks.google_compat import connection_field
from airflow_provider_nbjob.hooks.notebook_service import NotebookServiceClient, NotebookServiceGrpcTransport
from airflow_provider_nbjob.hooks.per_process import PerProcess

if TYPE_CHECKING:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    from google.cloud import storage

UNIVERSE_VARIABLE = "GOOGLE_CLOUD_UNIVERSE_DOMAIN"
UNIVERSE = "googleapis.com"
# `[nbjob] allowed_api_endpoints`; get_provider_info.py, which imports nothing of ours, repeats it.
ALLOWED_DEFAULT = "*.googleapis.com, localhost"

_LABEL = r"[A-Za-z0-9](?:[-_A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL}){{0,30}}"
_ADDRESS = re.compile(
    rf"(?P<scheme>https?://)?(?P<host>{_DOMAIN}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?/?"
)
# gRPC takes `unix:443` for a target of this scheme, not for the host `unix`.
_GRPC_SCHEMES = frozenset({"dns", "unix", "unix-abstract", "ipv4", "ipv6", "vsock", "xds", "google-c2p", "passthrough"})


class Endpoint(NamedTuple):
    """An endpoint of the API: ``host`` or ``host:port``, and whether it is plaintext, without credentials."""

    address: str
    is_plaintext: bool

    def __str__(self) -> str:
        return f"http://{self.address}" if self.is_plaintext else self.address


def resolve_endpoint(location: str, configured: str | None) -> Endpoint:
    """Return the configured endpoint, else the emulator's, else the regional one of the universe domain.

    The configured one may be what a DAG's author or the editor of a connection or an XCom chose, so it must be allowed:
    see `[nbjob] allowed_api_endpoints` in the provider's info. The variables ``NBJOB_EMULATOR_HOST`` and
    ``GOOGLE_CLOUD_UNIVERSE_DOMAIN`` are the administrator's, and must be well-formed only.

    :param location: region, such as ``us-central1``
    :param configured: ``host[:port]``, or ``http://host[:port]`` for plaintext
    :raises InvalidJob: if one of these is malformed, or the configured one is not allowed
    """
    names.check_location(location)
    if configured:
        return _allowed(configured)
    if emulator := os.environ.get(HOST_VARIABLE):
        host, port, scheme = _parts(HOST_VARIABLE, emulator)
        if scheme == "https://":
            raise InvalidJob(f"{HOST_VARIABLE}: {names.shown(emulator)} is not of the form host:port")
        return Endpoint(host + port, True)
    return Endpoint(f"{location}-aiplatform.{_universe()}", False)


def _allowed(configured: str) -> Endpoint:
    """Return the endpoint that a text names, if it is allowed.

    :raises InvalidJob: otherwise
    """
    host, port, scheme = _parts("api_endpoint", configured)
    is_plaintext = scheme == "http://"
    listed = conf.get("nbjob", "allowed_api_endpoints", fallback=ALLOWED_DEFAULT) or ""
    entries = {entry.strip().lower() for entry in listed.split(",")}
    domains = [entry.removeprefix("*") for entry in entries if entry.startswith("*.")]
    if os.environ.get(UNIVERSE_VARIABLE):
        domains.append(f".{_universe()}")
    is_named = host in entries or ("localhost" in entries and is_loopback(host))
    is_allowed = is_named or (not is_plaintext and any(host.endswith(domain) for domain in domains))
    if not is_allowed:
        kind = "in plaintext " if is_plaintext else ""
        raise InvalidJob(
            f"api_endpoint: {names.shown(configured)} is not allowed {kind}by [nbjob] allowed_api_endpoints,"
            f" which is {names.shown(listed)}"
        )
    return Endpoint(host + port, is_plaintext)


def _parts(field: str, value: str) -> tuple[str, str, str | None]:
    """Return the host of an endpoint in lower case, ``:port`` or an empty text, and the scheme.

    What is more than that is refused: user information, a path, a query, a fragment, a scheme of gRPC's, an
    internationalized name, spaces, a dot at the end.

    :raises InvalidJob: if it is malformed
    """
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match:
        host, port = match["host"].lower(), match["port"]
        is_host = host not in _GRPC_SCHEMES and len(host) <= 253 and (not host.startswith("[") or _ip(host))
        if is_host and (port is None or 0 < int(port) < 2**16):
            return host, f":{port}" if port else "", match["scheme"]
    raise InvalidJob(f"{field}: {names.shown(value)} is not of the form host, host:port or http://host:port")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def google_host(service: str) -> str:
    """Return the host of a service of Google's that has no regions, such as ``iam.googleapis.com``.

    :param service: the first label of the host; it comes from this package's code only
    :raises InvalidJob: if ``GOOGLE_CLOUD_UNIVERSE_DOMAIN`` holds no domain
    """
    return f"{service}.{_universe()}"


def _universe() -> str:
    """Return the universe domain.

    :raises InvalidJob: if the variable holds no domain
    """
    domain = os.environ.get(UNIVERSE_VARIABLE) or UNIVERSE
    if "." not in domain or not re.fullmatch(_DOMAIN, domain):
        raise InvalidJob(f"{UNIVERSE_VARIABLE}: {names.shown(domain)} is not of the form googleapis.com")
    return domain.lower()


def _plaintext_channel(endpoint: Endpoint) -> Any:
    import grpc

    # Channels to one address share their connections, so that a new client would go on with a dead one.
    channel = grpc.insecure_channel(endpoint.address, options=[("grpc.use_local_subchannel_pool", 1)])
    return with_emulator_token(channel, endpoint.address)


@PerProcess
def notebook_service_client(hook: GoogleBaseHook, endpoint: Endpoint) -> NotebookServiceClient:
    """Return the client of `NotebookService` at an endpoint, over gRPC."""
    if endpoint.is_plaintext:
        hook.log.info("Talking to the API at %s in plaintext, without credentials", endpoint.address)
        return NotebookServiceClient(transport=NotebookServiceGrpcTransport(channel=_plaintext_channel(endpoint)))
    return NotebookServiceClient(
        credentials=hook.get_credentials(),
        client_info=CLIENT_INFO,
        client_options=ClientOptions(
            api_endpoint=endpoint.address,
            universe_domain=os.environ.get(UNIVERSE_VARIABLE) or None,
        ),
    )


@PerProcess
def storage_client(hook: GoogleBaseHook) -> storage.Client:
    """Return the client of Cloud Storage; Google's own variable ``STORAGE_EMULATOR_HOST`` sends it to an emulator."""
    from google.cloud import storage  # not needed to submit and to wait

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        project = connection_field(hook, "project") or "emulator"
        return storage.Client(project=project, credentials=AnonymousCredentials())
    return storage.Client(project=hook.project_id, credentials=hook.get_credentials(), client_info=CLIENT_INFO)


@PerProcess
def dataform_client(hook: GoogleBaseHook, endpoint: Endpoint) -> Any:
    """Return the client of Dataform; a plaintext endpoint serves it beside the notebooks' API, as the emulator does."""
    from google.cloud.dataform_v1 import DataformClient  # needed only if a notebook of a repository gets parameters
    from google.cloud.dataform_v1.services.dataform.transports import DataformGrpcTransport

    if endpoint.is_plaintext:
        return DataformClient(transport=DataformGrpcTransport(channel=_plaintext_channel(endpoint)))
    return DataformClient(credentials=hook.get_credentials(), client_info=CLIENT_INFO)
