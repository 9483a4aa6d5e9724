"""One request to the API: tried again in bad weather, and its errors told in this provider's own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPICallError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, NotebookExecutionJobError
from airflow_provider_nbjob.job import plain_text

T = TypeVar("T")

RETRY_TOTAL = 60.0  # seconds for all attempts at one request


def perform(
    call: Callable[[], T],
    what: str,
    *,
    log: Any,
    codes: Collection[str],
    not_found: type[NotebookExecutionJobError] | None,
    on_unauthenticated: Callable[[], None],
) -> T:
    """Perform a request, with exponential back-off and jitter between its attempts.

    :param call: one attempt
    :param what: names the request in errors and in the log, which has one line for all failed attempts
    :param codes: names of the google.rpc.Codes after which to try again, beside UNAUTHENTICATED
    :param not_found: what to raise for NOT_FOUND, in place of `ApiError`
    :param on_unauthenticated: called before another attempt with what may have been an expired token
    :raises InvalidJob: for INVALID_ARGUMENT
    :raises ApiError: for anything else
    """

    def attempt() -> T:
        try:
            return call()
        except GoogleAPICallError as error:
            raise _told(error, what, not_found) from error

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        if isinstance(error, ApiError) and error.code == "UNAUTHENTICATED":
            on_unauthenticated()
        if state.attempt_number == 1:
            log.warning("%s; trying again for up to %.0f s", error, RETRY_TOTAL)

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
    error: GoogleAPICallError, what: str, not_found: type[NotebookExecutionJobError] | None
) -> NotebookExecutionJobError:
    code = error.grpc_status_code.name if error.grpc_status_code else "UNKNOWN"
    message = f"The {what} was answered {code}: {plain_text(error.message)}"
    if "DNS resolution failed" in message:
        message += " (is the location right?)"
    if code == "NOT_FOUND" and not_found:
        return not_found(message)
    return InvalidJob(message) if code == "INVALID_ARGUMENT" else ApiError(message, code)
