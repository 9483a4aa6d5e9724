"""Ask Google's services what a connection can do: the requests of the command `doctor`, which no task sends.

Each is one attempt, of at most `REQUEST_SECONDS`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from google.api_core.exceptions import from_http_response
from google.auth.transport.requests import AuthorizedSession, Request

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.attempts import ATTEMPT
from airflow_provider_nbjob.hooks.clients import google_host
from airflow_provider_nbjob.hooks.google_compat import cached_credentials, connection_field, source_credentials
from airflow_provider_nbjob.hooks.retrying import credentials_error, perform
from airflow_provider_nbjob.masking import mask, redact

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.connected import ConnectedHook

REQUEST_SECONDS = 30.0
QUOTA_PAGES_MAX = 20  # of the quotas of a project
PRIVATE = "p"  # the first label of the domain of Private Service Connect endpoints, `{endpoint}.p.googleapis.com`

_CREDENTIALS = (
    *("is_anonymous", "key_path", "keyfile_dict", "credential_config_file", "key_secret_name"),
    "idp_issuer_url",
)

# Google documents the quota of requests that manage resources, and no name of its metric:
# https://cloud.google.com/vertex-ai/docs/quotas. These words stand in the display names that may be it.
_QUOTA_WORDS = ("resource management", "notebook")
_PER_MINUTE = "1/min/"


class Quota(NamedTuple):
    """A limit of requests a minute.

    :param name: as the service displays it
    :param limit: requests a minute in the region
    """

    name: str
    limit: int


def fetch_token(hook: ConnectedHook) -> None:
    """Get an access token, and have Airflow mask it.

    :raises ApiError: if the credentials get none
    """
    credentials = hook.get_credentials()
    try:
        credentials.refresh(functools.partial(Request(), timeout=REQUEST_SECONDS))
    except Exception as error:  # of google.auth, of a key that is none, of what gives tokens
        raise credentials_error(error, "request for a token") from error
    if isinstance(credentials.token, str):
        mask(credentials.token)


def accounts(hook: ConnectedHook) -> tuple[str, ...]:
    """Return the accounts of a hook for a person: the one that requests are sent as, and those that impersonate it.

    The last one is the account of the connection's own credentials. Call `fetch_token` first: a metadata server names
    its account then.
    """
    chain = permissions.impersonated(hook)
    if not chain:
        return (permissions.account_of(hook),)
    own = source_credentials(cached_credentials(hook))
    email = getattr(own, "service_account_email", None) or getattr(own, "account", None)
    is_shown = isinstance(email, str) and "@" in email and redact(email) == email
    return (*reversed(chain), str(email) if is_shown else f"the account of connection {hook.gcp_conn_id!r}")


def credentials_field(hook: ConnectedHook) -> tuple[str, Any] | None:
    """Return the field of the connection's extra that says where its credentials come from, and its value.

    None stands for the machine's own credentials. The Google provider (22.8) refuses more than one of the fields.
    """
    return next(((name, value) for name in _CREDENTIALS if (value := connection_field(hook, name))), None)


def is_private_endpoint(address: str) -> bool:
    """Return whether ``host`` or ``host:port`` is in the domain of Private Service Connect endpoints."""
    return address.partition(":")[0].endswith(f".{google_host(PRIVATE)}")


def read_template(hook: ConnectedHook, name: str) -> None:
    """Read a runtime template.

    :param name: its full resource name
    :raises InvalidJob: if there is no such template
    :raises ApiError: if it cannot be read
    """
    hook.request(
        lambda api: api.get_notebook_runtime_template(name=name, **ATTEMPT),
        f"get of {name}",
        name.split("/")[3],
        access=permissions.GET_TEMPLATE,
        codes=(),
        renews=False,
        not_found=InvalidJob,
    )


def held_on_account(hook: ConnectedHook, account: str, asked: Collection[str]) -> set[str]:
    """Return which of some permissions the caller has on a service account.

    :param account: its email or its unique number
    :raises InvalidJob: if there is no such account
    :raises ApiError: if IAM does not say
    """
    resource = f"projects/-/serviceAccounts/{quote(account, safe='@')}"
    url = f"https://{google_host('iam')}/v1/{resource}:testIamPermissions"
    answer = _ask(hook, "POST", url, f"question for the permissions on {account}", body={"permissions": list(asked)})
    return {str(permission) for permission in answer.get("permissions", ())}


def held_on_project(hook: ConnectedHook, project: str, asked: Collection[str]) -> set[str]:
    """Return which of some permissions the caller has on a project.

    :raises ApiError: if the Resource Manager does not say
    """
    url = f"https://{google_host('cloudresourcemanager')}/v1/projects/{quote(project, safe='')}:testIamPermissions"
    answer = _ask(hook, "POST", url, f"question for the permissions on {project}", body={"permissions": list(asked)})
    return {str(permission) for permission in answer.get("permissions", ())}


def request_quotas(hook: ConnectedHook, project: str, location: str) -> list[Quota]:
    """Return the limits of requests a minute in a region that may apply to notebook jobs.

    :raises ApiError: if they cannot be read
    """
    services = f"https://{google_host('serviceusage')}/v1beta1/projects/{quote(project, safe='')}/services"
    url = f"{services}/{google_host('aiplatform')}/consumerQuotaMetrics?pageSize=200"
    found: list[Quota] = []
    token = ""
    for _ in range(QUOTA_PAGES_MAX):
        page = _ask(hook, "GET", f"{url}&pageToken={quote(token, safe='')}", f"list of quotas of {project}")
        found += [quota for metric in page.get("metrics", ()) for quota in _quotas_of(metric, location)]
        if not (token := page.get("nextPageToken", "")):
            break
    return found


def _quotas_of(metric: Mapping[str, Any], location: str) -> Iterator[Quota]:
    """Yield the limits a minute of a quota metric, each of its bucket for the region, or else of its default one."""
    name = str(metric.get("displayName", ""))
    if not any(word in name.lower() for word in _QUOTA_WORDS):
        return
    for limit in metric.get("consumerQuotaLimits", ()):
        buckets = limit.get("quotaBuckets", ()) if str(limit.get("unit", "")).startswith(_PER_MINUTE) else ()
        applying = [b for b in buckets if b.get("dimensions", {}) in ({}, {"region": location})]
        if applying:  # they are listed from the least specific one to the most specific one
            yield Quota(name, int(applying[-1].get("effectiveLimit", 0)))


def _ask(hook: ConnectedHook, verb: str, url: str, what: str, *, body: Mapping[str, Any] | None = None) -> Any:
    """Send a request with the connection's credentials, and return its answer, a JSON object.

    :raises InvalidJob: for NOT_FOUND and INVALID_ARGUMENT
    :raises ApiError: for anything else
    """

    def attempt() -> Any:
        # No redirect is followed: the credentials are for this host.
        with AuthorizedSession(hook.get_credentials()) as session:
            response = session.request(verb, url, json=body, timeout=REQUEST_SECONDS, allow_redirects=False)
        if response.status_code != 200:
            raise from_http_response(response)
        return response.json()

    answer = perform(
        attempt, what, log=hook.log, codes=(), not_found=InvalidJob, renew=lambda: None, renews=False, need=None
    )
    if not isinstance(answer, dict):
        raise ApiError(f"The {what} was not answered with a JSON object", "UNKNOWN")
    return answer
