"""Say what to do about an error of a check."""

from __future__ import annotations

import os
from collections.abc import Callable

from airflow_provider_nbjob.exceptions import ApiError, CredentialsUnavailable, NotebookExecutionJobError
from airflow_provider_nbjob.hooks.permissions import Access, is_about_a_role

# gRPC and requests send requests through the proxy that one of these names; its value may have a password.
_PROXIES = (
    "grpc_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "no_grpc_proxy",
    "no_proxy",
    "NO_PROXY",
)

CREDENTIALS = "Repair the connection's key, or the account that it is of."
_SHOWN = ("key_path", "key_secret_name")

HOST = "Name a host that is allowed, or have an administrator add it to [nbjob] allowed_api_endpoints."

Advice = Callable[[NotebookExecutionJobError], str]


def origin_of(field: tuple[str, object] | None) -> str:
    """Return a description of the place that credentials come from.

    :param field: name and value of a field of a connection's extra; None for the machine's own credentials
    """
    if field:
        name, value = field
        shown = f" {str(value)!r}" if name in _SHOWN else ""  # the other values are secrets
        return f"the connection's {name}{shown}"
    if path := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return f"the file {path!r} in GOOGLE_APPLICATION_CREDENTIALS"
    return "this machine's own account"


def repair_of(field: tuple[str, object] | None) -> str:
    """Return what to do about credentials that get no token; see `origin_of`."""
    if field and field[0] == "is_anonymous":
        return "Remove is_anonymous from the connection's extra, and give it a key."
    if field is None and not os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return "Give the connection a key (key_path, keyfile_dict or key_secret_name), or this machine an account."
    return f"Repair {origin_of(field)}, or the account that it is of."


def advice(host: str, access: Access, resource: str, otherwise: str) -> Advice:
    """Return a function that says what to do about an error of a request.

    :param host: of the service
    :param access: that the request needs
    :param resource: to grant it on
    :param otherwise: what to do about an error of the input, such as a name that does not exist
    """

    def what_to_do(error: NotebookExecutionJobError) -> str:
        if isinstance(error, CredentialsUnavailable):
            return CREDENTIALS
        if not isinstance(error, ApiError):
            return otherwise
        if error.code == "PERMISSION_DENIED":
            if not is_about_a_role(str(error)):
                return "Do what the answer says; a service that was just enabled needs a few minutes."
            return f"Grant {access.role} on {resource} to that account."
        if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            return unreachable(host)
        if error.code == "UNAUTHENTICATED":
            return CREDENTIALS
        if error.code == "RESOURCE_EXHAUSTED":
            return "Wait a minute and try again; else lower [nbjob] max_requests_per_minute, or have the quota raised."
        return otherwise if error.code == "NOT_FOUND" else "Try again; the answer has the service's reason."

    return what_to_do


def unreachable(host: str) -> str:
    """Return what to do if a host does not answer. The values of variables are not shown: they may have passwords."""
    proxies = [name for name in _PROXIES if os.environ.get(name)]
    says = f"; this process has {', '.join(proxies)}" if proxies else ""
    return (
        f"Have the network let this machine reach {host}: name server, routes, firewall, proxy{says}. If it does, try"
        " again later."
    )
