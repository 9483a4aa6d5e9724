"""One request to the API: retried after transient errors, with Google's exceptions translated into ours."""

from __future__ import annotations

import functools
import http.client
import socket
import ssl
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import grpc
import requests.exceptions
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import GoogleAuthError, TransportError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_nbjob import metrics
from airflow_provider_nbjob.exceptions import (
    ApiError,
    ConnectionUnavailable,
    CredentialsUnavailable,
    InvalidJob,
    NotebookExecutionJobError,
)
from airflow_provider_nbjob.hooks.permissions import GET_TOKEN, Access, Need
from airflow_provider_nbjob.job import plain_text
from airflow_provider_nbjob.masking import redact

T = TypeVar("T")

RETRY_TOTAL = 60.0  # seconds for all attempts at one request
REFRESH_TIMEOUT = 10.0  # seconds that asking for a token may take, to find out why gRPC got none
# After these the next attempt gets a new client: a token may have expired, or a connection be dead without having been
# closed, which gRPC would go on using for a quarter of an hour.
RENEWING_CODES = frozenset({"UNAUTHENTICATED", "DEADLINE_EXCEEDED"})
# After these the service may have performed the request; any other code is its refusal.
UNANSWERED_CODES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "DATA_LOSS"})
# What gRPC (1.85) says, with UNAVAILABLE, if the credentials get no token: for a revoked key and for an outage.
_NO_TOKEN = "Getting metadata from plugin failed"  # noqa: S105
# What it says if it never had a connection to send the request on.
_NEVER_SENT = (_NO_TOKEN, "failed to connect to all addresses", "DNS resolution failed")
# google.rpc.Code by HTTP status, of services that are asked over HTTP:
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_CODE_OF_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TIMEOUTS = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, RetryError)
_BROKEN_CONNECTIONS = (
    ConnectionError,
    EOFError,
    socket.gaierror,
    ssl.SSLError,
    http.client.HTTPException,
    requests.exceptions.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)


def perform(
    call: Callable[[], T],
    what: str,
    *,
    log: Any,
    codes: Collection[str],
    not_found: type[NotebookExecutionJobError] | None,
    renew: Callable[[], None],
    renews: bool = True,
    credentials: Callable[[], Any] | None = None,
    need: Need | None,
) -> T:
    """Send a request: retry transient errors with exponential back-off and jitter, and translate Google's exceptions.

    After an answer UNAUTHENTICATED the request is sent once more, with a new client: a token may have expired.
    Credentials that cannot be used are raised at once.

    :param call: one attempt
    :param what: names the request in errors and in the log, which has one line for all failed attempts
    :param codes: names of the google.rpc.Codes to retry after, beside UNAUTHENTICATED; if empty, one attempt is made
    :param not_found: exception for NOT_FOUND, in place of `ApiError`
    :param renew: drops the client, called after an error of `RENEWING_CODES` or of the credentials
    :param renews: whether to send the request once more after UNAUTHENTICATED
    :param credentials: returns the credentials of the client, to find out why gRPC got no token from them
    :param need: what the request needs, for an error PERMISSION_DENIED; also counts the request, see `counted`. None
        for a request that no task sends
    :raises InvalidJob: for INVALID_ARGUMENT
    :raises CredentialsUnavailable: if there are no credentials that can be used
    :raises ApiError: for anything else
    """
    renewals = 1 if renews else 0

    def attempt() -> T:
        try:
            with counted(need.access) if need else nullcontext():
                return call()
        except NotebookExecutionJobError:
            raise
        except GoogleAuthError as error:
            renew()
            raise credentials_error(error, what) from error
        except Exception as error:
            code = code_of(error)
            if code in RENEWING_CODES:
                renew()
            if credentials and _NO_TOKEN in str(error) and (reason := _refusal(credentials)):
                renew()  # the next request reads the key anew: it may have been replaced
                raise reason from error
            raise _translated(error, code, what, not_found, need) from error

    def is_tried_again(error: BaseException) -> bool:
        nonlocal renewals
        if not isinstance(error, ApiError) or isinstance(error, CredentialsUnavailable):
            return False
        if error.code == "UNAUTHENTICATED":
            renewals -= 1
            return renewals >= 0
        return error.code in codes

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning("%s; trying again for up to %.0f s", state.outcome and state.outcome.exception(), RETRY_TOTAL)

    retrying = Retrying(
        retry=retry_if_exception(is_tried_again),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        stop=stop_after_delay(RETRY_TOTAL),
        before_sleep=before_sleep,
        reraise=True,
    )
    answer = retrying(attempt)
    if (attempts := retrying.statistics["attempt_number"]) > 1:
        log.info("The %s succeeded at attempt %s", what, attempts)
    return answer


@contextmanager
def counted(access: Access) -> Iterator[None]:
    """Count a call of the API, and its error if it ends with one of Google's, or of the connection."""
    metrics.send(metrics.API_CALLS, method=access.method)
    try:
        yield
    except Exception as error:
        if isinstance(error, ApiError) or not isinstance(error, NotebookExecutionJobError):
            known = credentials_error(error, access.method) if isinstance(error, GoogleAuthError) else error
            metrics.send(metrics.API_ERRORS, method=access.method, code=code_of(known))
        raise


def may_have_been_performed(error: Exception) -> bool:
    """Return whether a request may have been performed although it failed."""
    if isinstance(error, (GoogleAuthError, NotebookExecutionJobError)):  # there was nothing to send it with
        return False
    return code_of(error) in UNANSWERED_CODES and not any(text in str(error) for text in _NEVER_SENT)


def credentials_error(error: Exception, what: str, *, beginning: str = "") -> ApiError:
    """Return the error for missing credentials; it is transient only after an outage.

    :param error: of google.auth, or of reading a key file
    :param what: what needs the credentials
    :param beginning: of the message, in place of one that names `what`
    """
    message = redact(f"{beginning or f'The {what} got no credentials'}: {error}")
    if "impersonated credentials" in message and ("403" in message or "PERMISSION_DENIED" in message):
        message += (
            f". Most likely the account that impersonates lacks the permission {GET_TOKEN.permission}, which"
            f" {GET_TOKEN.role} has, on the account that it impersonates."
        )
    if _is_outage(error):
        transient = ApiError(message, "UNAVAILABLE")
        transient.public_message = "The credentials could not be got at this time; the log says why."
        return transient
    return CredentialsUnavailable(message)


def connection_error(error: Exception, conn_id: str) -> ConnectionUnavailable:
    """Return the error for a connection that Airflow did not return.

    :param error: what Airflow, its supervisor or a secrets backend raised
    """
    denied = isinstance(error, PermissionError)  # the task SDK's AirflowSecretsBackendAccessDenied, of Airflow 3.3
    unavailable = ConnectionUnavailable(
        redact(f"Airflow returned no connection {conn_id!r}, or cannot reach what holds it: {error}"),
        "PERMISSION_DENIED" if denied else "UNAVAILABLE",
    )
    unavailable.public_message = redact(
        f"Airflow returned no connection {conn_id!r}: it is not defined, or cannot be read at this time."
    )
    return unavailable


def _refusal(credentials: Callable[[], Any]) -> CredentialsUnavailable | None:
    """Ask for a token, and return the error if it is refused; None if there is one, or an outage."""
    from google.auth.transport.requests import Request  # not needed where all goes well

    try:
        credentials().refresh(functools.partial(Request(), timeout=REFRESH_TIMEOUT))
    except CredentialsUnavailable as error:
        return error
    except GoogleAuthError as error:
        refused = credentials_error(error, "request for a token")
        return refused if isinstance(refused, CredentialsUnavailable) else None
    except Exception:  # of the credentials' own kind: the request's own error says more
        return None
    return None


def _is_outage(error: BaseException) -> bool:
    """Return whether an error of google.auth is one after which the same may succeed.

    Its own flag is set by the token endpoint only. The metadata server's errors are transport errors, perhaps within
    another, whose response has a status if there was one.
    """
    if getattr(error, "retryable", False):
        return True
    cause = error.__cause__ if isinstance(error.__cause__, GoogleAuthError) else None
    transport = next((found for found in (error, cause) if isinstance(found, TransportError)), None)
    if transport is None:
        return False
    status = next((found for arg in transport.args if isinstance(found := getattr(arg, "status", None), int)), None)
    return status is None or status == 429 or status >= 500


def code_of(error: BaseException) -> str:
    """Return the name of the google.rpc.Code of an error that a client of Google's raised; UNKNOWN if it has none."""
    if isinstance(error, ApiError):
        return error.code
    if isinstance(error, RetryError) and error.cause:
        return code_of(error.cause)
    if isinstance(error, grpc.RpcError):
        code = getattr(error, "code", None)
        return getattr(code() if callable(code) else code, "name", "UNKNOWN")
    if isinstance(error, GoogleAPICallError) and error.grpc_status_code:
        return str(error.grpc_status_code.name)
    response = getattr(error, "response", None)  # of an error of the storage client's downloads and uploads
    status = error.code if isinstance(error, GoogleAPICallError) else getattr(response, "status_code", None)
    if isinstance(status, int):
        return _CODE_OF_STATUS.get(status, "UNKNOWN")
    if isinstance(error, _TIMEOUTS):
        return "DEADLINE_EXCEEDED"
    return "UNAVAILABLE" if isinstance(error, _BROKEN_CONNECTIONS) else "UNKNOWN"


def is_an_answer(error: BaseException) -> bool:
    """Return whether an error's text is Google's answer, or this provider's own: it tells nothing of this machine."""
    last = error.cause if isinstance(error, RetryError) else error
    return isinstance(last, (GoogleAPICallError, NotebookExecutionJobError))


def _translated(
    error: Exception,
    code: str,
    what: str,
    not_found: type[NotebookExecutionJobError] | None,
    need: Need | None,
) -> NotebookExecutionJobError:
    if not is_an_answer(error):
        failed = ApiError(redact(f"The {what} failed: {type(error).__name__}: {error}"), code)
        failed.public_message = redact(f"The {what} failed; the log says why.")
        return failed
    text = plain_text(str(getattr(error, "message", error)))
    message = redact(f"The {what} was answered {code}: {text}")
    if "DNS resolution failed" in message:
        message += " (is the location right?)"
    if code == "PERMISSION_DENIED" and need:
        return need.refused(message, text)
    if code == "NOT_FOUND" and not_found:
        return not_found(message)
    return InvalidJob(message) if code == "INVALID_ARGUMENT" else ApiError(message, code)
