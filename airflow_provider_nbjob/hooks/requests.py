"""One request to the API: retried after transient errors, with Google's exceptions translated into ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_nbjob.exceptions import ApiError, CredentialsUnavailable, InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.job import plain_text
from airflow_provider_nbjob.masking import redact

T = TypeVar("T")

RETRY_TOTAL = 60.0  # seconds for all attempts at one request
REFRESH_TIMEOUT = 10.0  # seconds that asking for a token may take, to find out why gRPC got none
# After these the next attempt gets a new client: a token may have expired, or a connection be dead without having been
# closed, which gRPC would go on using for a quarter of an hour.
RENEWING_CODES = frozenset({"UNAUTHENTICATED", "DEADLINE_EXCEEDED"})
# What gRPC (1.85) says, with UNAVAILABLE, if the credentials get no token: for a revoked key and for an outage.
_NO_TOKEN = "Getting metadata from plugin failed"  # noqa: S105


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
) -> T:
    """Perform a request, with exponential back-off and jitter between its attempts.

    An answer UNAUTHENTICATED is asked for once more, with a new client: a token may have expired. Credentials that
    cannot be used are told at once.

    :param call: one attempt
    :param what: names the request in errors and in the log, which has one line for all failed attempts
    :param codes: names of the google.rpc.Codes after which to try again, beside UNAUTHENTICATED; none: one attempt
    :param not_found: what to raise for NOT_FOUND, in place of `ApiError`
    :param renew: drops the client, called after an error of `RENEWING_CODES`
    :param renews: whether an answer UNAUTHENTICATED is asked for once more
    :param credentials: returns the credentials of the client, to find out why gRPC got no token from them
    :raises InvalidJob: for INVALID_ARGUMENT
    :raises CredentialsUnavailable: if there are no credentials that can be used
    :raises ApiError: for anything else
    """
    renewals = 1 if renews else 0

    def attempt() -> T:
        try:
            return call()
        except GoogleAPICallError as error:
            code = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
            if code in RENEWING_CODES:
                renew()
            if credentials and _NO_TOKEN in error.message and (reason := _refusal(credentials)):
                raise reason from error
            raise _translated(code, error.message, what, not_found) from error
        except GoogleAuthError as error:
            raise credentials_error(error, what) from error

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


def credentials_error(error: Exception, what: str) -> ApiError:
    """Return the error for credentials that could not be got: a transient one after an outage only.

    :param error: of google.auth, or whatever reading a key file raises
    :param what: what they were wanted for
    """
    message = redact(f"The {what} got no credentials: {error}")
    if _is_outage(error):
        transient = ApiError(message, "UNAVAILABLE")
        transient.public_message = "The credentials could not be got at this time; the log says why."
        return transient
    return CredentialsUnavailable(message)


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
    except Exception:  # of the credentials' own kind: the request's own error is told
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


def _translated(
    code: str, message: str, what: str, not_found: type[NotebookExecutionJobError] | None
) -> NotebookExecutionJobError:
    message = redact(f"The {what} was answered {code}: {plain_text(message)}")
    if "DNS resolution failed" in message:
        message += " (is the location right?)"
    if code == "NOT_FOUND" and not_found:
        return not_found(message)
    return InvalidJob(message) if code == "INVALID_ARGUMENT" else ApiError(message, code)
