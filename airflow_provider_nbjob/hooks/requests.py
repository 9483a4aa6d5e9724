"""One request to the API: tried again in bad weather, and its errors told in this provider's own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.job import plain_text

T = TypeVar("T")

RETRY_TOTAL = 60.0  # seconds for all attempts at one request
# After these the next attempt gets a new client: a token may have expired, or a connection be dead without having been
# closed, which gRPC would go on using for a quarter of an hour.
RENEWING_CODES = frozenset({"UNAUTHENTICATED", "DEADLINE_EXCEEDED"})


def perform(
    call: Callable[[], T],
    what: str,
    *,
    log: Any,
    codes: Collection[str],
    not_found: type[NotebookExecutionJobError] | None,
    renew: Callable[[], None],
) -> T:
    """Perform a request, with exponential back-off and jitter between its attempts.

    :param call: one attempt
    :param what: names the request in errors and in the log, which has one line for all failed attempts
    :param codes: names of the google.rpc.Codes after which to try again, beside UNAUTHENTICATED
    :param not_found: what to raise for NOT_FOUND, in place of `ApiError`
    :param renew: drops the client, called after an error of `RENEWING_CODES`
    :raises InvalidJob: for INVALID_ARGUMENT
    :raises ApiError: for anything else
    """

    def attempt() -> T:
        try:
            return call()
        except GoogleAPICallError as error:
            code = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
            if code in RENEWING_CODES:
                renew()
            raise _told(code, error.message, what, not_found) from error
        except GoogleAuthError as error:
            code = "UNAVAILABLE" if error.retryable else "UNAUTHENTICATED"
            raise ApiError(f"The {what} got no credentials: {error}", code) from error

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning("%s; trying again for up to %.0f s", state.outcome and state.outcome.exception(), RETRY_TOTAL)

    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, ApiError) and e.code in {*codes, "UNAUTHENTICATED"}),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        stop=stop_after_delay(RETRY_TOTAL),
        before_sleep=before_sleep,
        reraise=True,
    )
    answer = retrying(attempt)
    if (attempts := retrying.statistics["attempt_number"]) > 1:
        log.info("The %s succeeded at attempt %s", what, attempts)
    return answer


def _told(
    code: str, message: str, what: str, not_found: type[NotebookExecutionJobError] | None
) -> NotebookExecutionJobError:
    message = f"The {what} was answered {code}: {plain_text(message)}"
    if "DNS resolution failed" in message:
        message += " (is the location right?)"
    if code == "NOT_FOUND" and not_found:
        return not_found(message)
    return InvalidJob(message) if code == "INVALID_ARGUMENT" else ApiError(message, code)
